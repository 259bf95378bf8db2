// What capture costs a writer: 32 writers, each one small UPDATE per commit, beside a running relay. Also with commits
// that take 1 ms and 5 ms.
import { tidy, withSession } from './cluster.ts';
import { type Figure, median, medianRatio } from './figures.ts';
import { findDriver, write } from './load.ts';
import { type PeerName, peers } from './peers.ts';
import { authOf, type Bench, inOrder, serve } from './run.ts';

const WRITERS = 32;
type Writing = Exclude<PeerName, 'ws' | 'wire'>;

async function commitsPerSecond(bench: Bench, name: Writing): Promise<number> {
  const peer = peers[name];
  const databaseUrl = await bench.cluster.database(peer);
  await tidy(databaseUrl, peer);
  const served = name === 'none' || name === 'outbox' || name === 'muted' ? null : await serve(bench, name);
  try {
    if (served) {
      const auths = [await authOf(name, 1)];
      await served.clients.ask('open', { port: served.port, protocol: 'socket.io', count: 1, auths });
    }
    const { perSecond, commits } = await write({
      databaseUrl,
      writers: WRITERS,
      seconds: bench.seconds(6),
      afterwards: peer.afterwards ?? null,
    });
    if (served) {
      const { events } = await served.clients.ask<{ events: number }>('count');
      if (events === 0) throw new Error(`${peer.label}: ${commits} commits, and its client heard of none.`);
    }
    return perSecond;
  } finally {
    await served?.close();
  }
}

async function measure(
  bench: Bench,
  names: readonly Writing[],
  section: string,
): Promise<Map<Writing, number[]>> {
  const results = new Map<Writing, number[]>(names.map((name) => [name, []]));
  for (let round = 0; round < bench.rounds; round += 1) {
    for (const name of inOrder(names, round)) {
      const result = await bench.calm.measure(() => commitsPerSecond(bench, name));
      results.get(name)!.push(result);
      bench.say(
        `${section} ${round + 1}/${bench.rounds}: ${peers[name].label}: ${Math.round(result)} commits/s`,
      );
    }
  }
  return results;
}

function figuresOf(
  results: ReadonlyMap<Writing, readonly number[]>,
  section: string,
  unit: string,
): Figure[] {
  return [...results].map(([name, rounds]) => ({
    section,
    what: peers[name].label,
    value: median(rounds),
    rounds,
    unit,
    bar: name,
  }));
}

export async function writers(bench: Bench): Promise<Figure[]> {
  const section = 'writers';
  const unit = `commits/s (${await findDriver()})`;
  const names: Writing[] = ['none', 'outbox', 'muted', 'recado', 'textbook', 'cursor', 'emitter'];
  const results = await measure(bench, names, section);
  const rounds = (name: Writing) => results.get(name)!;
  const ratio = (what: string, under: Writing, atLeast: number | null): Figure => ({
    section,
    what: `recado ÷ ${what}`,
    value: medianRatio(rounds('recado'), rounds(under)),
    rounds: rounds('recado').map((value, n) => value / rounds(under)[n]!),
    unit: '',
    ...(atLeast !== null && { limit: { atLeast } }),
  });
  return [
    ...figuresOf(results, section, unit),
    ratio('no trigger', 'none', 0.6),
    ratio('outbox row alone', 'outbox', 0.9),
    ratio('its own trigger, muted', 'muted', 0.9),
    ratio('textbook', 'textbook', 2.5),
    {
      section,
      what: 'its own trigger, muted ÷ outbox row alone',
      value: medianRatio(rounds('muted'), rounds('outbox')),
      unit: '',
      limit: { atLeast: 0.85 },
    },
  ];
}

/** Slower disks: of a good network, and of a slow one or a synchronous standby. */
export async function slowCommits(bench: Bench): Promise<Figure[]> {
  return [...(await slowCommit(bench, 1)), ...(await slowCommit(bench, 5))];
}

async function slowCommit(bench: Bench, commitMs: 1 | 5): Promise<Figure[]> {
  const section = `writers, commit ${commitMs} ms`;
  const names: Writing[] = ['outbox', 'recado', 'textbook'];
  const setCommit = async (settings: readonly string[]) => {
    for (const name of names) {
      await withSession(await bench.cluster.database(peers[name]), async (session) => {
        const { rows } = await session.query<{ name: string }>('select current_database() as name');
        for (const setting of settings) await session.query(`alter database ${rows[0]!.name} ${setting}`);
      });
    }
  };
  // Also when nobody else is active: commit_siblings.
  await setCommit([`set commit_delay = ${commitMs * 1_000}`, 'set commit_siblings = 0']);
  try {
    const results = await measure(bench, names, section);
    const rounds = (name: Writing) => results.get(name)!;
    const ratio = (what: string, under: Writing, atLeast: number): Figure => ({
      section,
      what: `recado ÷ ${what}`,
      value: medianRatio(rounds('recado'), rounds(under)),
      unit: '',
      ...(commitMs === 5 && { limit: { atLeast } }),
    });
    return [
      ...figuresOf(results, section, 'commits/s'),
      ratio('outbox row alone', 'outbox', 0.85),
      ratio('textbook', 'textbook', 15),
    ];
  } finally {
    await setCommit(['reset commit_delay', 'reset commit_siblings']);
  }
}
