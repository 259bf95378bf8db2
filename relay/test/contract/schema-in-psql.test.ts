// The schema relay in psql: what every function of ours has, and relay.status.
import { until } from '../world.ts';
import { clinic, rows } from './psql.ts';

describe('every function of ours', () => {
  const ours = `p.pronamespace in ('relay'::regnamespace, 'relay_capture'::regnamespace, 'relay_clinic'::regnamespace, 'evolution'::regnamespace)`;

  test('has a comment', async () => {
    expect(
      await rows(
        `select p.oid::regprocedure::text as f from pg_proc as p where ${ours} and obj_description(p.oid, 'pg_proc') is null`,
      ),
    ).toEqual([]);
  });

  test('has a fixed search_path', async () => {
    // These run for every event or row, where settings of their own would cost more than they do, or keep Postgres
    // from inlining them. They qualify what they name, or name only pg_catalog, which comes first in any search_path.
    const lean = [
      'relay.gate_key()',
      'relay.iso(timestamp with time zone)',
      'relay.iso(timestamp without time zone)',
      'relay.iso(date)',
      'evolution.status_rank(text)',
      'evolution.status_at(integer)',
    ];
    const found = await rows<{ f: string }>(
      `select p.oid::regprocedure::text as f from pg_proc as p
        where ${ours} and not coalesce(p.proconfig::text like '%search_path=pg_catalog, pg_temp%', false)`,
    );
    expect(found.map(({ f }) => f).filter((f) => !lean.includes(f))).toEqual([]);
  });

  test('is for everybody to call in a few cases only', async () => {
    expect(await clinic.value(`select has_schema_privilege('public', 'evolution', 'usage')`)).toBe(false);
    const found = await rows<{ f: string }>(
      `select p.oid::regprocedure::text as f
         from pg_proc as p, aclexplode(coalesce(p.proacl, acldefault('f', p.proowner))) as acl
        where ${ours} and p.pronamespace <> 'evolution'::regnamespace
          and acl.grantee = 0 and acl.privilege_type = 'EXECUTE' order by p.oid::regprocedure::text collate "C"`,
    );
    expect(found.map(({ f }) => f)).toEqual([
      'relay."position"()',
      'relay.iso(date)',
      'relay.iso(timestamp with time zone)',
      'relay.iso(timestamp without time zone)',
      'relay_clinic.appointment(bigint)',
    ]);
  });

  test('every table and view of the schema relay has a comment', async () => {
    expect(
      await rows(
        `select c.oid::regclass::text as relation from pg_class as c
          where c.relnamespace = 'relay'::regnamespace and c.relkind in ('r', 'p', 'v') and not c.relispartition
            and obj_description(c.oid, 'pg_class') is null`,
      ),
    ).toEqual([]);
  });
});

describe('relay.status', () => {
  const about = (subject: string) =>
    rows<{ item: string; value: string; remark: string }>(
      `select item, value, remark from relay.status where subject = '${subject}'`,
    );

  test('relays, what they have not read yet, the gate, whoever keeps a transaction open', async () => {
    expect(await about('relays')).toEqual([
      { item: 'recado feed', value: '0', remark: 'No relay is connected: events wait in relay.events.' },
    ]);
    const [feed, first, second] = await Promise.all([clinic.connect(), clinic.connect(), clinic.connect()]);
    try {
      await feed.query(`set application_name = 'recado feed'`);
      await clinic.writer.query('update public.doctors set "isBusy" = not "isBusy"');
      expect(await about('relays')).toMatchObject([{ item: 'recado feed', value: '1' }]);
      expect(await about('nodes')).toMatchObject([
        {
          item: expect.stringMatching(/^backend \d+$/),
          remark: expect.stringMatching(/^since it last read/),
        },
      ]);
      expect(await about('backlog')).toMatchObject([{ item: 'events', value: '1' }]);
      expect(await about('gate')).toMatchObject([{ value: 'open' }]);
      // A writer that rang, and a relay that closes the gate meanwhile.
      await first.query('begin; select pg_advisory_xact_lock_shared(relay.gate_key())');
      const closing = second.query('select pg_advisory_lock(relay.gate_key())');
      await until('the gate is closing', async () => (await about('gate'))[0]!.value === 'closing');
      expect((await about('gate'))[0]!.remark).toContain('waits for 1 writers');
      expect((await about('oldest transaction'))[0]!.item).toMatch(/^backend \d+$/);
      await first.query('commit');
      await closing;
      expect((await about('gate'))[0]!.value).toBe('closed');
      expect(await about('slots')).toHaveLength(8);
    } finally {
      await Promise.all([feed.end(), first.end(), second.end()]);
    }
  });
});
