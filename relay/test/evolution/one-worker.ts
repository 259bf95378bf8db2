// A worker and its database for all tests of a file, beside servers that speak the real protocol, traps included.
import type { FakeInstance } from '../../evolution/demo/instance.ts';
import { type EvolutionServer, startEvolutionServer } from '../../evolution/demo/server.ts';
import type { Pace } from '../../evolution/pace.ts';
import { type EvolutionWorker, startEvolutionWorker } from '../../evolution/worker.ts';
import type { Log } from '../../log.ts';
import { until as waitFor } from '../world.ts';
import { startWorld, type World } from './world.ts';

export const pace: Partial<Pace> = {
  retryMs: 20,
  slowestMs: 200,
  refusedMs: 100,
  namespaceMs: 20,
  pollMs: 100,
  lookMs: 100,
  requestMs: 5_000,
  overlapMs: 60_000,
  pageSize: 20,
};

export const lines: string[] = [];
export const log: Log = {
  say: (name, ...fields) => void lines.push(`${name} ${JSON.stringify(fields)}`),
  with: () => log,
};

export let world: World;
let worker: EvolutionWorker;
const servers: EvolutionServer[] = [];
export const secrets: string[] = [];
let count = 0;

beforeAll(async () => {
  world = await startWorld();
  worker = await startEvolutionWorker({ pool: world.pool, connectionString: world.url, log, pace });
});
afterAll(async () => {
  await worker.close();
  for (const server of servers) await server.close();
  await world.close();
});

export async function server(
  options: Parameters<typeof startEvolutionServer>[0] = {},
): Promise<EvolutionServer> {
  const started = await startEvolutionServer({ globalKey: 'GLOBAL-KEY-SECRET', ...options });
  servers.push(started);
  return started;
}

export function addFake(to: EvolutionServer): FakeInstance {
  const fake = to.add(`vendas-${++count}`);
  secrets.push(fake.token);
  return fake;
}

export async function insert(
  fake: FakeInstance,
  host: string,
  fields: { apiKey?: string; mode?: string } = {},
): Promise<void> {
  await world.rows(
    'insert into evolution.instances (name, "tenantId", host, "apiKey", mode) values ($1, $2, $3, $4, $5)',
    [fake.name, `t-${fake.name}`, host, fields.apiKey ?? fake.token, fields.mode ?? 'auto'],
  );
}

/** Looks again until it is so; fails with what it saw last. */
export async function until<T>(
  look: () => Promise<T> | T,
  isSo: (seen: T) => boolean,
  ms = 20_000,
): Promise<T> {
  let seen: { last: T } | undefined;
  try {
    return (
      await waitFor(
        'it comes to pass',
        async () => {
          seen = { last: await look() };
          return isSo(seen.last) ? seen : null;
        },
        ms,
      )
    ).last;
  } catch (error) {
    throw new Error(`Last seen: ${JSON.stringify(seen?.last)}\n${lines.slice(-10).join('\n')}`, {
      cause: error,
    });
  }
}

export const status = async (fake: FakeInstance) =>
  (
    await world.rows<{ status: string; statusReason: string | null }>(
      'select status, "statusReason" from evolution.instances where name = $1',
      [fake.name],
    )
  )[0]!;
export const contents = async (fake: FakeInstance) =>
  (
    await world.rows<{ content: string }>(
      'select content from evolution.messages where "instanceName" = $1 order by id',
      [fake.name],
    )
  ).map((m) => m.content);

export async function stores(fake: FakeInstance, content: string): Promise<void> {
  await until(
    () => contents(fake),
    (stored) => stored.includes(content),
  );
}

/** The reading at the connection is over, and the one after its namespace has appeared. */
export async function hasRead(fake: FakeInstance): Promise<void> {
  await until(
    () => lines.filter((l) => l.startsWith('evolution_caught_up') && l.includes(`"${fake.name}"`)).length,
    (n) => n >= 2,
  );
}

export async function becomes(fake: FakeInstance, wanted: string): ReturnType<typeof status> {
  return until(
    () => status(fake),
    (row) => row.status === wanted,
  );
}

export async function connect(to: EvolutionServer): Promise<FakeInstance> {
  const fake = addFake(to);
  await insert(fake, to.url);
  await until(() => fake.subscribed, Boolean);
  fake.emit('connection.update', { instance: fake.name, state: 'open', statusReason: 200 });
  await becomes(fake, 'connected');
  // What comes before that is history, and not told message by message.
  await until(
    () =>
      world.rows('select 1 from evolution.sources where name = $1 and synced_at is not null', [fake.name]),
    (rows) => rows.length === 1,
  );
  return fake;
}
