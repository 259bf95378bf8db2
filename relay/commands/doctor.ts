// recado doctor: looks at everything a relay needs, and says what to do.
import pg from 'pg';
import { MOST_KEY_SET_BYTES } from '../auth/jwks.ts';
import { readBounded } from '../bounded.ts';
import { readSettings, type Settings } from '../config/settings.ts';
import { waitForDatabase } from '../db/connect.ts';
import { errorText } from '../errors.ts';
import { createLog } from '../log.ts';
import { commandLine } from '../package.ts';
import { findDatabase, findSecret } from './demo.ts';
import { findDefaults } from './doctor/defaults.ts';
import { broken, type Finding, ok, warning } from './doctor/finding.ts';
import { findStream } from './doctor/stream.ts';

type Check = (context: Examined) => Promise<Finding[]>;

interface Examined {
  settings: Settings;
  url: string;
  session: pg.Client;
}

/** A clock that is further off makes latencies nonsense and tokens expire early or late. */
const CLOCK_MAY_DIFFER_MS = 2_000;
const HEARD_WITHIN_MS = 3_000;

/** Looks at settings, database, LISTEN, privileges, contract, clock and key set, as far as it gets. */
export async function examine(environment: NodeJS.ProcessEnv): Promise<Finding[]> {
  let settings: Settings;
  let url: string;
  try {
    settings = readSettings(environment);
    url = await findDatabase(settings);
  } catch (error) {
    return [broken('settings', errorText(error))];
  }
  const findings = [ok('settings', 'they can be read'), await checkKeys(settings)];
  const session = await connect(url).catch((error: unknown) => errorText(error));
  if (typeof session === 'string') return [...findings, broken('database', session)];
  try {
    for (const check of checks) {
      try {
        findings.push(...(await check({ settings, url, session })));
      } catch (error) {
        findings.push(
          broken(
            check.name,
            isMissing(error) ? lacks(error) : `the check itself failed: ${errorText(error)}`,
          ),
        );
      }
    }
  } finally {
    await session.end();
  }
  return findings;
}

/** A function, a table or a column is not there. */
const MISSING = ['42883', '42P01', '42703'];
const isMissing = (error: unknown) => error instanceof pg.DatabaseError && MISSING.includes(error.code ?? '');

const lacks = (error: unknown) =>
  `this database lacks what the check reads (${errorText(error)}); another version of Recado may have migrated it: run "${commandLine('migrate')}".`;

async function connect(url: string): Promise<pg.Client> {
  const log = createLog('silent', false);
  await waitForDatabase({ url, name: 'recado doctor', log, patienceMs: 5_000 });
  const session = new pg.Client({ connectionString: url, application_name: 'recado doctor' });
  session.on('error', () => undefined);
  await session.connect();
  return session;
}

const checks: Check[] = [
  server,
  schema,
  privileges,
  listening,
  clock,
  activity,
  locks,
  contract,
  captureRights,
  defaults,
  ({ settings, session }) => findStream(settings.stream.url, session),
];

async function server({ session }: Examined): Promise<Finding[]> {
  const { rows } = await session.query<{ version: string; standby: boolean; replica: string }>(
    `select current_setting('server_version') as version, pg_is_in_recovery() as standby,
            current_setting('session_replication_role') as replica`,
  );
  const { version, standby, replica } = rows[0]!;
  const findings = standby
    ? [
        broken(
          'database',
          `Postgres ${version}, a standby: the relay needs the primary. Correct DATABASE_URL.`,
        ),
      ]
    : [ok('database', `Postgres ${version}, the primary`)];
  if (replica === 'replica') {
    findings.push(
      broken(
        'triggers',
        'session_replication_role is replica, so no trigger fires: alter role … reset session_replication_role.',
      ),
    );
  }
  return findings;
}

async function schema({ session }: Examined): Promise<Finding[]> {
  const { rows } = await session.query<{ installed: boolean }>(
    `select to_regclass('relay.events') is not null as installed`,
  );
  return rows[0]!.installed
    ? [ok('schema', 'relay is installed')]
    : [broken('schema', `there is no schema relay here: run "${commandLine('migrate')}".`)];
}

/** What the relay process reads and calls, tried as the role it runs as. */
async function privileges({ session }: Examined): Promise<Finding[]> {
  const needed = [
    ['read events', 'select id from relay.events limit 0'],
    ['read the contract', 'select event from relay.catalogue limit 0'],
    ['read revocations', 'select id from relay.revocations limit 0'],
    ['settle the epoch', 'select relay.epoch()'],
    ['take a position', 'select relay.position()'],
  ] as const;
  const refused: string[] = [];
  for (const [what, statement] of needed) {
    await session.query(statement).catch((error: unknown) => {
      if (isMissing(error)) throw error;
      refused.push(`${what} (${errorText(error)})`);
    });
  }
  if (refused.length === 0) return [ok('privileges', 'the role may read what the relay needs')];
  return [
    broken(
      'privileges',
      `the role may not ${refused.join(', ')}: grant relay_reader to the role in DATABASE_URL.`,
    ),
  ];
}

/** Notifies itself. Behind a transaction pooler LISTEN succeeds, and no notification arrives. */
async function listening({ session, url }: Examined): Promise<Finding[]> {
  const listener = new pg.Client({ connectionString: url, application_name: 'recado doctor' });
  listener.on('error', () => undefined);
  try {
    await listener.connect();
    const heard = new Promise<boolean>((resolve) => {
      listener.on('notification', () => resolve(true));
      setTimeout(() => resolve(false), HEARD_WITHIN_MS);
    });
    await listener.query('listen recado_doctor');
    await session.query(`select pg_notify('recado_doctor', '')`);
    if (await heard) return [ok('LISTEN', 'a notification arrives')];
    return [
      broken(
        'LISTEN',
        'a notification did not arrive: DATABASE_URL leads through a pooler; give the relay a direct connection.',
      ),
    ];
  } finally {
    await listener.end().catch(() => undefined);
  }
}

async function clock({ session }: Examined): Promise<Finding[]> {
  const before = Date.now();
  const { rows } = await session.query<{ ms: number }>(
    `select date_part('epoch', clock_timestamp()) * 1000 as ms`,
  );
  const off = Math.round(rows[0]!.ms - (before + Date.now()) / 2);
  if (Math.abs(off) <= CLOCK_MAY_DIFFER_MS) return [ok('clock', `differs by ${off} ms from the database's`)];
  return [
    warning('clock', `differs by ${off} ms from the database's: let both machines keep time with NTP.`),
  ];
}

async function activity({ session }: Examined): Promise<Finding[]> {
  const { rows } = await session.query<{ queue: number; oldest: number | null; relays: number }>(
    `select pg_notification_queue_usage() as queue,
            (select max(date_part('epoch', clock_timestamp() - xact_start)) from pg_stat_activity
              where backend_xid is not null) as oldest,
            (select count(*)::int from pg_stat_activity
              where application_name = 'recado feed' and datname = current_database()) as relays`,
  );
  const { queue, oldest, relays } = rows[0]!;
  const findings = [
    relays > 0
      ? ok('relays', `${relays} read events`)
      : warning(
          'relays',
          `none reads events of this database at the moment: start "${commandLine('relay')}".`,
        ),
  ];
  if (queue > 0.5) {
    const percent = Math.round(queue * 100);
    findings.push(
      broken(
        'notification queue',
        `${percent} % full; when it is full every NOTIFY fails, and the write with it: end the session that listens and never reads (pg_stat_activity).`,
      ),
    );
  }
  if (oldest !== null && oldest > 600) {
    const minutes = Math.round(oldest / 60);
    findings.push(
      warning(
        'transactions',
        `one that writes has been open for ${minutes} minutes: its events wait for its commit, and positions grow longer. See pg_stat_activity.`,
      ),
    );
  }
  return findings;
}

async function contract({ session }: Examined): Promise<Finding[]> {
  const { rows } = await session.query<{ events: number; failures: number }>(
    `select (select count(distinct event)::int from relay.catalogue) as events,
            (select count(*)::int from relay.failures where failed_at > now() - interval '1 hour') as failures`,
  );
  const { events, failures } = rows[0]!;
  const findings =
    events > 0
      ? [ok('contract', `${events} events`)]
      : [warning('contract', 'it is empty: select relay.publish(event => …) adds an event.')];
  if (failures > 0) {
    findings.push(
      broken(
        'failures',
        `${failures} captures failed in the last hour, and their accounts were told to refetch: select * from relay.failures.`,
      ),
    );
  }
  return findings;
}

/** Any role may take the locks by which relays and migrations agree. */
async function locks({ session }: Examined): Promise<Finding[]> {
  const { rows } = await session.query<{ detail: string; remedy: string }>(
    'select detail, remedy from relay.check_locks()',
  );
  if (rows.length === 0) return [ok('locks', 'are held by nobody else')];
  return rows.map(({ detail, remedy }) => warning('locks', `${detail} To end its session: ${remedy}`));
}

/** A capture function runs as its owner, and so does every function that its expressions call. */
async function captureRights({ session }: Examined): Promise<Finding[]> {
  const { rows } = await session.query<{ tables: string | null }>(
    `select string_agg(distinct c.table_name, ', ') as tables
       from relay.catalogue as c
       join pg_proc as p on p.pronamespace = to_regnamespace('relay_capture') and p.proname = relay.capture_name(c)
       join pg_roles as r on r.oid = p.proowner and r.rolsuper`,
  );
  const { tables } = rows[0]!;
  if (tables === null) return [ok('capture functions', 'none runs as a superuser')];
  return [
    warning(
      'capture functions',
      `those of ${tables} run as a superuser, with every function that their expressions call: let another role own the tables (alter table … owner to …), then select relay.republish(event).`,
    ),
  ];
}

async function defaults({ session }: Examined): Promise<Finding[]> {
  return findDefaults(session);
}

async function checkKeys(settings: Settings): Promise<Finding> {
  const { keySetUrl } = settings.jwt;
  if (keySetUrl === null) {
    await findSecret(settings);
    return ok('tokens', 'are verified with a shared secret');
  }
  try {
    const response = await fetch(keySetUrl, { signal: AbortSignal.timeout(5_000) });
    const body: unknown = JSON.parse(await readBounded(response, MOST_KEY_SET_BYTES));
    const keys = typeof body === 'object' && body !== null && 'keys' in body ? body.keys : null;
    if (response.ok && Array.isArray(keys) && keys.length > 0) {
      return ok('tokens', `are verified with a key set of ${keys.length}`);
    }
    return broken(
      'tokens',
      `JWT_JWKS_URL answered ${response.status} without keys: correct the address, or ask the token issuer.`,
    );
  } catch (error) {
    return broken(
      'tokens',
      `JWT_JWKS_URL cannot be read (${errorText(error)}): correct the address, or open the way to it.`,
    );
  }
}
