// One room with a thousand clients, each with a topic of its own and one of fifty sets of topics: what a delivery costs the
// server where each client hears ten of twenty events, against ten events that everybody hears.
import type pg from 'pg';
import { tidy, withSession } from './cluster.ts';
import { ACCOUNT, CLIENTS, commit, measure, PAYLOAD, type Rate, TOGETHER } from './fanout.ts';
import { type Figure, median, medianRatio } from './figures.ts';
import { EVENT, peers } from './peers.ts';
import { authOf, type Bench, serve } from './run.ts';

const SETS = 50;
/** An event for each topic, in one transaction. */
const TOPICS = Array.from({ length: 2 * TOGETHER }, (_, n) => `topic:${n}`);

/** Half of the topics, another half for each set. */
function topicsOfSet(set: number): string[] {
  const left = [...TOPICS];
  let chance = set + 1;
  return Array.from({ length: TOGETHER }, () => {
    chance = (chance * 48_271) % 2_147_483_647;
    return left.splice(chance % left.length, 1)[0]!;
  });
}

async function commitForTopics(session: pg.Client): Promise<void> {
  await session.query({
    name: 'commit for topics',
    text: `insert into relay.events (account_id, event, payload, audience)
           select $1, $2, $3::jsonb, array[topic] from unnest($4::text[]) as topic`,
    values: [String(ACCOUNT), EVENT, JSON.stringify(PAYLOAD), TOPICS],
  });
}

async function measureBoth(bench: Bench): Promise<{ everybody: Rate; topics: Rate }> {
  const databaseUrl = await bench.cluster.database(peers.recado);
  await tidy(databaseUrl, peers.recado);
  const served = await serve(bench, 'recado');
  try {
    const auths = await Promise.all(
      Array.from({ length: CLIENTS }, (_, n) =>
        authOf('recado', ACCOUNT, { subject: String(n), topics: topicsOfSet(n % SETS) }),
      ),
    );
    const { port } = served;
    await served.clients.ask('open', { port, protocol: 'socket.io', count: CLIENTS, auths });
    return await withSession(databaseUrl, async (session) => {
      const seconds = bench.seconds(3);
      return {
        everybody: await measure(served, (times) => commit(session, times), TOGETHER, seconds),
        topics: await measure(served, () => commitForTopics(session), TOGETHER, seconds),
      };
    });
  } finally {
    await served.close();
  }
}

export async function audiences(bench: Bench): Promise<Figure[]> {
  const everybody: number[] = [];
  const topics: number[] = [];
  for (let round = 0; round < bench.rounds; round += 1) {
    const result = await bench.calm.measure(() => measureBoth(bench));
    everybody.push(result.everybody.cpuPerDelivery);
    topics.push(result.topics.cpuPerDelivery);
    bench.say(
      `audiences ${round + 1}/${bench.rounds}: for everybody ${everybody.at(-1)!.toFixed(2)} µs of CPU a delivery; for topics ${topics.at(-1)!.toFixed(2)}`,
    );
  }
  const section = `audiences, ${CLIENTS.toLocaleString('en')} clients with ${SETS} sets of topics`;
  const unit = 'µs/delivery';
  return [
    {
      section,
      what: 'ten events for everybody: server CPU',
      value: median(everybody),
      rounds: everybody,
      unit,
    },
    { section, what: 'ten of twenty by topic: server CPU', value: median(topics), rounds: topics, unit },
    {
      section,
      what: 'by topic ÷ for everybody',
      value: medianRatio(topics, everybody),
      unit: '',
      limit: { atMost: 1.3 },
    },
  ];
}
