// What a captured UPDATE costs the processor of the database, beside a hand-written outbox row, and what the parts of the
// capture take of it. The CPU of the writers' backends, in slices of a fraction of a second that alternate: on a machine
// that others use too, commits a second in longer rounds vary by half.
import pg from 'pg';
import { cpuOf } from './cpu.ts';
import { type Figure, median } from './figures.ts';
import { DOCTORS, EVENT, PAYLOAD, peers } from './peers.ts';
import { type Bench, inOrder } from './run.ts';

const WRITERS = 4;
const SLICE_MS = 150;
/** All slices of one variant. */
const SECONDS = 9;

const FUNCTION = `relay_capture."${EVENT}/update"()`;

/** Parts of Recado's capture, and the SQL that takes each away. Together too: in this order. */
const PARTS: Readonly<Record<string, string>> = {
  'the index by account': 'drop index relay.events_by_account',
  'the clock in the slot': 'alter table only relay.events alter column slot set default 3',
  'the gate': 'alter table only relay.events alter column xid set default pg_current_xact_id()',
  'the exception block': `
    create or replace function ${FUNCTION} returns trigger language plpgsql security definer
    set search_path = pg_catalog, pg_temp set timezone = UTC set row_security = off set intervalstyle = postgres
    set bytea_output = hex set datestyle = 'ISO, MDY' set extra_float_digits = 1 as $function$
    declare
      captured_account text;
      captured_payload jsonb;
    begin
      if (old."isBusy" is distinct from new."isBusy") is not true then
        return null;
      end if;
      captured_account := (new."accountId")::text;
      if captured_account is null then
        return null;
      end if;
      captured_payload := coalesce((${PAYLOAD})::jsonb, 'null');
      if octet_length(captured_account) > 256 or pg_column_size(captured_payload #> '{}') > 4194304 then
        raise exception 'too large';
      end if;
      insert into relay.events (account_id, event, payload) values (captured_account, '${EVENT}', captured_payload);
      return null;
    end
    $function$`,
  'settings besides search_path': `alter function ${FUNCTION} reset all; alter function ${FUNCTION} set search_path = pg_catalog, pg_temp`,
};

const ALL_PARTS = 'all of these';

/** @returns its writers' sessions */
async function connectAll(databaseUrl: string): Promise<Writer[]> {
  return Promise.all(
    Array.from({ length: WRITERS }, async () => {
      const session = new pg.Client({ connectionString: databaseUrl });
      await session.connect();
      const { rows } = await session.query<{ pid: number }>('select pg_backend_pid() as pid');
      return { session, pid: rows[0]!.pid };
    }),
  );
}

interface Writer {
  readonly session: pg.Client;
  readonly pid: number;
}

async function usedBy(writers: readonly Writer[]): Promise<number> {
  const used = await Promise.all(writers.map(({ pid }) => cpuOf(pid)));
  return used.reduce((sum, nanoseconds) => sum + nanoseconds, 0);
}

/** Microseconds a commit. */
async function slice(writers: readonly Writer[]): Promise<number> {
  const before = await usedBy(writers);
  const until = performance.now() + SLICE_MS;
  let commits = 0;
  await Promise.all(
    writers.map(async ({ session }) => {
      while (performance.now() < until) {
        await session.query({
          name: 'write',
          text: 'update public.doctors set "isBusy" = not "isBusy" where id = $1',
          values: [1 + Math.floor(Math.random() * DOCTORS)],
        });
        commits += 1;
      }
    }),
  );
  return ((await usedBy(writers)) - before) / 1_000 / commits;
}

export async function capture(bench: Bench): Promise<Figure[]> {
  const { cluster } = bench;
  const urls = new Map([
    ['none', await cluster.database(peers.none)],
    ['outbox', await cluster.database(peers.outbox)],
    ['muted', await cluster.database(peers.muted)],
  ]);
  for (const [part, sql] of Object.entries(PARTS)) urls.set(part, await cluster.variant(peers.muted, sql));
  urls.set(ALL_PARTS, await cluster.variant(peers.muted, Object.values(PARTS).join(';\n')));
  const writers = new Map<string, Writer[]>();
  for (const [name, url] of urls) writers.set(name, await connectAll(url));
  const names = [...urls.keys()];
  const slices = new Map<string, number[]>(names.map((name) => [name, []]));
  try {
    // Connections, plans and caches are warm.
    for (const name of names) await slice(writers.get(name)!);
    const rounds = Math.ceil((bench.seconds(SECONDS) * 1_000 * bench.rounds) / SLICE_MS / 3);
    for (let round = 0; round < rounds; round += 1) {
      for (const name of inOrder(names, round)) slices.get(name)!.push(await slice(writers.get(name)!));
    }
  } finally {
    await Promise.all([...writers.values()].flat().map(({ session }) => session.end()));
  }
  const all = (name: string) => slices.get(name)!;
  const paired = (of: (round: number) => number) => median(all('muted').map((_, round) => of(round)));
  const section = 'capture, CPU of a commit';
  const figure = (name: string, what: string): Figure => ({
    section,
    what,
    value: median(all(name)),
    unit: 'µs',
  });
  const figures: Figure[] = [
    figure('none', 'no trigger'),
    figure('outbox', 'hand-written outbox row'),
    figure('muted', "recado's trigger, nobody told"),
    {
      section,
      what: "hand-written ÷ recado's trigger",
      value: paired((round) => all('outbox')[round]! / all('muted')[round]!),
      unit: '',
      limit: { atLeast: 0.85 },
    },
    ...[...Object.keys(PARTS), ALL_PARTS].map(
      (part): Figure => ({
        section,
        what: `of which ${part}`,
        value: paired((round) => all('muted')[round]! - all(part)[round]!),
        unit: 'µs',
      }),
    ),
  ];
  for (const { what, value, unit } of figures) bench.say(`capture: ${what}: ${value.toFixed(2)} ${unit}`);
  return figures;
}
