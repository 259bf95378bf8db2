// The oracle: real relays, a real Postgres and stock clients, and everything that can go wrong between them.
//
//   npm run test:faults -- [--seconds 45] [--faults 24] [--seed N] [--only "half-open"] [--verbose] [--keep]
//
//   chance.ts    seeded randomness
//   server.ts    the Postgres, its tables and their contract
//   nodes.ts     relay processes
//   links.ts     the network
//   writers.ts   applications        ledger.ts  what they know
//   clients.ts   pages
//   faults.ts    the schedule, and each fault
//   report.ts    the comparison
//   resyncs.ts   the only two ways to get a relay:resync here
//   bell.ts      the gate under writers who saw it closed: nobody waits for a safety read
//   storm.ts     two thousand clients come back at once
//   mutations.ts the same runs against a relay with an error in it
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { parseArgs } from 'node:util';
import { packageRoot } from '../../config.ts';
import { until } from '../world.ts';
import { Chance } from './chance.ts';
import { Client, KINDS } from './clients.ts';
import { makeSchedule, runSchedule, type World } from './faults.ts';
import { Ledger } from './ledger.ts';
import { Link } from './links.ts';
import { markEnd } from './marks.ts';
import { RelayNode } from './nodes.ts';
import { compareLedger, compareViewing, readCommitted, renderTable, Verdict, VIOLATIONS } from './report.ts';
import { prepareDatabase, Server } from './server.ts';
import { Writers } from './writers.ts';

const ACCOUNTS = ['1', '2', '3', '4', 'clínica', 'a-b-c', '10', '007'];
const WRITERS = 8;
/** The smallest allowed, so that clients that do not read are sent away. */
const CLIENT_BUFFER_BYTES = '4160KiB';

const { values: options } = parseArgs({
  options: {
    seconds: { type: 'string', default: '45' },
    faults: { type: 'string' },
    seed: { type: 'string', default: String(Math.floor(Math.random() * 1e9)) },
    only: { type: 'string' },
    dist: { type: 'string', default: join(packageRoot, 'dist') },
    verbose: { type: 'boolean', default: false },
    keep: { type: 'boolean', default: false },
  },
});
const seed = Number(options.seed);
const seconds = Number(options.seconds);
const schedule = makeSchedule(
  seed,
  Number(options.faults ?? Math.ceil(seconds / 2)),
  seconds * 1_000,
  options.only,
);

const print = (line: string) => void process.stdout.write(`${line}\n`);
const detail = (line: string) => void (options.verbose && print(line));

print(`seed ${seed}, ${seconds} seconds, ${schedule.length} faults`);
const folder = await mkdtemp(join(tmpdir(), 'recado-faults-'));
// Whatever hangs ends here. Servers and relays notice that we are gone, and end too.
const watchdog = setTimeout(
  () => {
    process.stderr.write(`Not finished within ${seconds + 240} seconds. The logs are in ${folder}\n`);
    process.exit(1);
  },
  (seconds + 240) * 1_000,
);

const verdict = new Verdict();
const server = await Server.start(folder);
await prepareDatabase(server, ACCOUNTS);
const nodes = await Promise.all(
  [
    { name: 'a', environment: { CLIENT_BUFFER_BYTES } },
    // A window that is soon too small, so that clients of this one are served from the table.
    { name: 'b', environment: { CLIENT_BUFFER_BYTES, WINDOW_EVENTS: '300' } },
  ].map(async ({ name, environment }) =>
    RelayNode.start({
      name,
      environment,
      dist: options.dist,
      folder,
      databaseUrl: (port) => server.urlThrough(port),
      databasePort: server.port,
    }),
  ),
);
const clients: Client[] = [];
for (const [index, account] of ACCOUNTS.entries()) {
  for (const [place, kind] of KINDS.entries()) {
    if (kind === 'polling' && index > 1) continue;
    clients.push(
      new Client(account, kind, await Link.to(nodes[(index + place) % nodes.length]!.port), server),
    );
  }
}
await Promise.all(clients.map((client) => client.open()));
const ledger = new Ledger();
const writers = new Writers(WRITERS, server.url, ACCOUNTS, ledger, (name) => new Chance(seed, name));
const world: World = { server, nodes, clients, writers };

writers.start();
const began = Date.now();
await runSchedule(schedule, seed, world, detail);
await sleep(Math.max(0, began + seconds * 1_000 - Date.now()));
await writers.stop();
detail('writers stopped, waiting for the clients');

const marks = await markEnd(server, ACCOUNTS);
const waitedFrom = Date.now();
const isThere = (client: Client) => client.hasHeard(marks.get(client.account)!);
await until('every client heard the end', () => clients.every(isThere), 90_000).catch(() => {
  const absent = clients.filter((client) => !isThere(client)).map(({ name }) => name);
  verdict.add('complaints', `after 90 seconds these had not heard the end: ${absent.join(', ')}`);
});
const caughtUpAfter = Date.now() - waitedFrom;
// What comes twice comes late.
await sleep(1_000);

const committed = await readCommitted(server, verdict);
compareLedger(ledger, committed, verdict);
let deliveries = 0;
let connects = 0;
let recovered = 0;
for (const client of clients) {
  for (const viewing of client.viewings) {
    deliveries += viewing.seen.length;
    compareViewing(viewing, committed, ledger, verdict);
  }
  connects += client.figures.connects;
  recovered += client.figures.recovered;
  for (const [reason, count] of client.figures.resyncs) {
    for (let i = 0; i < count; i += 1)
      verdict.add('resyncs', `${client.name} was told to refetch: ${reason}`);
  }
  for (const complaint of client.figures.complaints) verdict.add('complaints', complaint);
}
for (const node of nodes) for (const complaint of node.complaints) verdict.add('complaints', complaint);

const kinds = new Map<string, number>();
for (const { kind } of schedule) kinds.set(kind, (kinds.get(kind) ?? 0) + 1);
const outcomes = (outcome: string) => ledger.transactions.filter((each) => each.outcome === outcome).length;
print(
  renderTable([
    ['seed', seed],
    ['seconds', seconds],
    ['faults', schedule.length],
    ...[...kinds].sort().map(([kind, count]) => [`  ${kind}`, count] as const),
    ['transactions committed', outcomes('committed')],
    ['  rolled back', outcomes('rolled back')],
    ['  outcome unknown', outcomes('unknown')],
    ['events', committed.size],
    ['clients', clients.length],
    ['deliveries', deliveries],
    ['connects', connects],
    ['  recovered', recovered],
    ['caught up after the end', `${caughtUpAfter} ms`],
    ...VIOLATIONS.map((violation) => [violation, verdict.counts.get(violation)!] as const),
  ]),
);
for (const example of verdict.examples) print(`  ! ${example}`);

for (const client of clients) client.close();
await Promise.all(nodes.map((node) => node.stop()));
await Promise.all(clients.map(({ link }) => link.close()));
await server.stop();
clearTimeout(watchdog);
if (options.keep || !verdict.clean) print(`  logs: ${folder}`);
else await rm(folder, { recursive: true, force: true });
print(verdict.clean ? 'Kept its promise.' : `Broke its promise; again with --seed ${seed}`);
process.exit(verdict.clean ? 0 : 1);
