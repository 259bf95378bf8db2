// A fault for every alert, made on a real relay.
import type { Relay } from '../../server/relay.ts';
import { useNodes } from '../nodes.ts';
import { type Database, deadPort, freshDatabase, metric, OPERATOR, through, token, until } from '../world.ts';
import { type Course, NO_TARGET, type Scrape, scrape, TARGET, valueIn } from './promtool.ts';

let database: Database;
beforeEach(async () => {
  database = await freshDatabase();
  await database.query(`select relay.publish('item')`);
});
const { node, listeningNode, client, link } = useNodes(() => database);
afterEach(() => database.close());

const look = (relay: Pick<Relay, 'port'>) => scrape(relay.port, OPERATOR);
/** The first scrape that shows this. @param act done before each scrape */
const shows = (relay: Relay, name: string, isSo: (value: number) => boolean, act?: () => Promise<unknown>) =>
  until(`${name} shows it`, async () => {
    await act?.();
    const scraped = await look(relay);
    const value = valueIn(scraped, name);
    return value !== undefined && isSo(value) ? scraped : null;
  });
const isPositive = (value: number) => value > 0;
const isZero = (value: number) => value === 0;

const healthy = (relay: Relay) => shows(relay, 'recado_listening', isPositive);

interface Fault extends Pick<Course, 'minutes' | 'again' | 'growing'> {
  /** Of the alert; those of the node if it does not say. */
  labels?: Record<string, string>;
  /** Makes the fault between two scrapes. */
  make: () => Promise<Pick<Course, 'before' | 'after'>>;
}

/** A fault of a relay that was well before. */
function faultOf(make: (relay: Relay) => Promise<Scrape>, env: Record<string, string> = {}): Fault['make'] {
  return async () => {
    const relay = await node(env);
    return { before: await healthy(relay), after: await make(relay) };
  };
}

const emit = (event: string, age = '0 s', payload = '1') =>
  database.query(
    `insert into relay.events (account_id, event, created_at, payload)
     values ('acc-1', $1, clock_timestamp() - $2::interval, $3)`,
    [event, age, payload],
  );

async function publishVisits(payload: string): Promise<void> {
  await database.query('create table public.visits (id int, account int)');
  await database.query(
    `select relay.publish('visits.made', 'public.visits', 'INSERT', account => 'new.account', payload => $1)`,
    [payload],
  );
}

/** A WhatsApp instance that no worker serves. */
const addInstance = () =>
  database.query(
    `insert into evolution.instances (name, "tenantId", host, "apiKey") values ('desk', '1', 'http://127.0.0.1:9', 'key')`,
  );

/** By the name of the alert. */
export const FAULTS: Record<string, Fault> = {
  RecadoNodeDown: {
    minutes: 1,
    make: faultOf(async (relay) => {
      await relay.close();
      return look(relay);
    }),
  },
  RecadoNoNode: { minutes: 3, labels: {}, make: faultOf(async () => NO_TARGET) },
  RecadoReaderFrozen: {
    minutes: 2,
    labels: {},
    growing: { recado_slowest_reader_seconds: 60 },
    make: faultOf(async (relay) => {
      const frozen = await database.connect();
      await frozen.query(`set application_name = 'recado feed'`);
      return shows(relay, 'recado_slowest_reader_seconds', (seconds) => seconds > 1.5);
    }),
  },
  RecadoCannotRead: {
    minutes: 2,
    async make() {
      const port = Number(new URL(database.url).port);
      const road = await link(port);
      const relay = await node({}, through(road, database.url));
      const before = await healthy(relay);
      road.point(await deadPort());
      road.cut();
      return { before, after: await shows(relay, 'recado_feed_ready', isZero) };
    },
  },
  RecadoDeaf: {
    minutes: 3,
    make: faultOf((relay) =>
      shows(relay, 'recado_listening', isZero, () => database.endSessions('recado wakeup')),
    ),
  },
  RecadoNoNotifications: {
    minutes: 12,
    labels: {},
    again: 5,
    make: faultOf(async (relay) => {
      const squatter = await database.connect();
      await squatter.query('select pg_advisory_lock(relay.gate_key())');
      await emit('item');
      return shows(relay, 'recado_events_read_total', isPositive);
    }),
  },
  RecadoEdgeWithoutStream: {
    minutes: 2,
    async make() {
      const edge = await node({ STREAM_URL: `redis://127.0.0.1:${await deadPort()}` });
      const after = await shows(edge, 'recado_edge_streaming', isZero);
      // As if its Redis had been there at first.
      const well = [...after].map(([series, value]): [string, number] =>
        series.startsWith('recado_edge_streaming{') ? [series, 1] : [series, value],
      );
      return { before: new Map(well), after };
    },
  },
  RecadoLate: {
    minutes: 8,
    labels: { instance: TARGET.instance },
    again: 1,
    make: faultOf(async (relay) => {
      await client(relay, { token: await token() }).live();
      await emit('item', '5 s');
      return shows(relay, 'recado_events_emitted_total', isPositive);
    }),
  },
  RecadoCaptureFailed: {
    minutes: 1,
    make: faultOf(async (relay) => {
      await publishVisits('to_jsonb(1 / (new.id - 1))');
      await database.query('insert into public.visits values (1, 1)');
      return shows(relay, 'recado_capture_failures', isPositive);
    }),
  },
  RecadoContractBroken: {
    minutes: 6,
    make: faultOf(async () => {
      await publishVisits('to_jsonb(new.id)');
      await database.query('alter table public.visits disable trigger user');
      return shows(await listeningNode(), 'recado_contract_problems', isPositive);
    }),
  },
  RecadoDiskFull: {
    minutes: 2,
    // disk-full.test.ts fills one.
    make: faultOf(async () => {
      await database.query(
        `create or replace function relay.check_disk(out problem text, out event text, out object text, out detail text, out remedy text)
         returns setof record language sql as $$ select 'disk_full', null, 'temporary file', 'no space', 'make room' $$`,
      );
      // The first one looks again in a minute only.
      return shows(await listeningNode(), 'recado_disk_full', isPositive);
    }),
  },
  RecadoRetentionFails: {
    minutes: 10,
    again: 1,
    make: faultOf(async () => {
      await database.query(
        `create or replace function relay.rotate(seen pg_snapshot) returns table (slot int, outcome text)
         language plpgsql as $$ begin raise disk_full; end $$`,
      );
      // The first one may have looked already, and looks again in some minutes.
      return shows(await listeningNode(), 'recado_retention_failures_total', isPositive);
    }),
  },
  RecadoSlotOverdue: {
    minutes: 16,
    make: faultOf(async () => {
      // Into the slot that is written now, which no relay empties.
      await emit('item', '3 days');
      return shows(await listeningNode(), 'recado_slots_overdue', isPositive);
    }),
  },
  RecadoUnknownEvents: {
    minutes: 1,
    make: faultOf(async (relay) => {
      await emit('never.published');
      return shows(relay, 'recado_events_unknown_total', isPositive);
    }),
  },
  RecadoSlowConsumers: {
    minutes: 25,
    again: 60,
    make: faultOf(
      async (relay) => {
        const auth = { token: await token() };
        const slow = await client(relay, auth, { reconnection: false }).live();
        const quick = await client(relay, auth).live();
        slow.network.pause();
        let n = 0;
        return shows(relay, 'recado_slow_consumers_closed_total', isPositive, async () => {
          n += 1;
          await emit('item', '0 s', JSON.stringify('x'.repeat(400_000)));
          // A relay that is behind would make its clients read the table at their own pace.
          await quick.hears(n);
        });
      },
      { CLIENT_BUFFER_BYTES: '5MiB' },
    ),
  },
  RecadoResyncs: {
    minutes: 1,
    labels: { reason: 'unreadable' },
    make: faultOf(async (relay) => {
      const auth = { token: await token(), position: 'nonsense' };
      for (let n = 0; n < 25; n += 1) client(relay, auth);
      await until('all were told', async () => (await metric(relay, 'resyncs')) === 25);
      return look(relay);
    }),
  },
  RecadoHandshakesDeferred: {
    minutes: 1,
    labels: { code: 'jwks_unavailable', ...TARGET },
    async make() {
      const relay = await node({ JWT_JWKS_URL: `http://127.0.0.1:${await deadPort()}/keys` });
      const before = await healthy(relay);
      // Signed with a key that would be fetched.
      const header = Buffer.from(JSON.stringify({ alg: 'ES256', kid: 'a' })).toString('base64url');
      const auth = { token: (await token()).replace(/^[^.]+/, header) };
      for (let n = 0; n < 25; n += 1) client(relay, auth, { reconnection: false });
      await until('all are sent away', async () => (await metric(relay, 'refused')) === 25);
      return { before, after: await look(relay) };
    },
  },
  RecadoNotifyQueue: {
    minutes: 8,
    // The queue has eight gigabytes; a test of the feed fills one that is small.
    growing: { recado_notification_queue_ratio: 0.1 },
    make: faultOf(look),
  },
  RecadoOldTransaction: {
    minutes: 35,
    growing: { recado_oldest_transaction_seconds: 60 },
    make: faultOf(async (relay) => {
      const old = await database.connect();
      await old.query('begin; create table public.never_committed ()');
      return shows(relay, 'recado_oldest_transaction_seconds', isPositive);
    }),
  },
  RecadoGateStuck: {
    minutes: 6 * 60 + 1,
    make: faultOf((relay) =>
      shows(relay, 'recado_gate_closed', isPositive, () =>
        database.query(`select pg_notify('relay', n::text) from generate_series(1, 1000) as n`),
      ),
    ),
  },
  RecadoOutboxGrows: {
    minutes: 4 * 60,
    growing: { recado_outbox_bytes: 10_000_000 },
    make: faultOf(look),
  },
  RecadoWhatsAppAway: {
    minutes: 11,
    labels: { exported_instance: 'desk' },
    make: faultOf(async (relay) => {
      await addInstance();
      return shows(relay, 'recado_evolution_connected', isZero);
    }),
  },
  RecadoWhatsAppRejects: {
    minutes: 5,
    labels: { exported_instance: 'desk' },
    async make() {
      await addInstance();
      await database.query(`update evolution.instances set status = 'connected'`);
      await database.query(
        `insert into evolution.workers (id, host, pid) values (gen_random_uuid(), 'test', 1)`,
      );
      await database.query(
        `insert into evolution.leases (instance_id, worker_id, until)
         select i.id, w.id, now() + interval '1 hour' from evolution.instances as i, evolution.workers as w`,
      );
      const relay = await listeningNode();
      const before = await shows(relay, 'recado_evolution_rejected_envelopes', isZero);
      await database.query(
        `insert into evolution.rejected ("tenantId", "instanceName", event, reason, item)
         values ('1', 'desk', 'messages.upsert', 'no key', '{}')`,
      );
      return { before, after: await shows(relay, 'recado_evolution_rejected_envelopes', isPositive) };
    },
  },
};
