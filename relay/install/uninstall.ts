// Removes Recado from a database while the application runs. Events go first, one transaction each, so that no
// write of the application ever meets a trigger whose function is gone; the schemas go last.
import type pg from 'pg';
import { errorCode, RecadoError } from '../errors.ts';
import type { Log } from '../log.ts';
import { retryWhileBusy, sentenceOf } from './apply-sql.ts';
import { withLock } from './lock.ts';

export interface Inventory {
  readonly database: string;
  readonly schemas: readonly string[];
  /** As relay.catalogue has them. */
  readonly events: readonly string[];
  /** Triggers of ours on tables of the application: `{name, on}`, both quoted. */
  readonly triggers: readonly { name: string; on: string }[];
  /** In public: tables that --clinic made, and views that an upgrade from 0.1 left. */
  readonly tables: readonly string[];
  readonly views: readonly string[];
  /** Those of the clinic and of WhatsApp that hold rows. */
  readonly filled: readonly string[];
  readonly roles: readonly string[];
  /** What of the application would stop working: views, keys, functions. */
  readonly dependants: readonly string[];
  /** Sessions of relays, workers and other commands, by name. */
  readonly connected: readonly string[];
}

export interface UninstallOptions {
  databaseUrl: string;
  log: Log;
  /** Also where chats, messages or the clinic's rows go with it. */
  withData?: boolean;
  /** Also where something of the application depends on it; what Postgres ties to it goes, too. */
  force?: boolean;
  /** How long a busy table is retried. */
  patienceMs?: number;
}

const SCHEMAS = ['relay', 'relay_capture', 'relay_clinic', 'evolution'];
const ROLES = ['relay_owner', 'relay_reader', 'relay_admin', 'recado_evolution'];
const CLINIC_TABLES = [
  ...['appointmentProcedures', 'procedures', 'appointments', 'appointmentStatuses', 'contacts'],
  ...['patients', 'doctors', 'accounts'],
];
/** Short, because writers queue behind a session that waits for a table's lock. */
const BRIEFLY = "set local lock_timeout = '50ms'";

/** What is there; nothing is changed. Without schemas Recado is not installed. */
export async function takeInventory(session: pg.ClientBase): Promise<Inventory> {
  const { rows: found } = await session.query<Omit<Inventory, 'events' | 'tables' | 'filled'>>(INVENTORY, [
    SCHEMAS,
    ROLES,
  ]);
  const inventory = found[0]!;
  if (!inventory.schemas.includes('relay')) return { ...inventory, events: [], tables: [], filled: [] };
  const { rows } = await session.query<{ events: string[]; makesTables: boolean }>(
    `select array(select distinct event from relay.catalogue order by event) as events,
            exists (select from relay.packs where pack = 'clinic' and makes_tables) as "makesTables"`,
  );
  const { events, makesTables } = rows[0]!;
  const tables = makesTables
    ? await existing(
        session,
        CLINIC_TABLES.map((name) => `public."${name}"`),
      )
    : [];
  const data = [...tables, ...(await existing(session, ['evolution.chats', 'evolution.messages']))];
  const filled: string[] = [];
  for (const table of data) {
    const { rows } = await session.query<{ filled: boolean }>(
      `select exists (select from ${table}) as filled`,
    );
    // The statuses are ours.
    if (rows[0]!.filled && !table.includes('appointmentStatuses')) filled.push(table);
  }
  return { ...inventory, events, tables, filled };
}

/**
 * Removes everything that `recado migrate` has made. What was removed when it fails stays so, and it can be run again.
 *
 * @returns what stayed, as sentences
 * @throws RecadoError `relays_connected`, `data_would_be_lost`, `app_depends_on_it`: nothing was changed;
 *   `not_migrated`: there is nothing to remove; `uninstall_incomplete`: what the message names is still there
 */
export async function uninstall(options: UninstallOptions): Promise<string[]> {
  const { log, withData = false, force = false, patienceMs = 120_000 } = options;
  const busy = { log, patienceMs };
  return withLock({ ...options, name: 'recado uninstall' }, async (session) => {
    const inventory = await takeInventory(session);
    refuse(inventory, { withData, force });
    for (const event of inventory.events) {
      await transact(session, busy, `event ${event}`, [['select relay.unpublish($1)', [event]]]);
    }
    for (const { name, on } of inventory.triggers) {
      await transact(session, busy, `trigger ${name}`, [[`drop trigger if exists ${name} on ${on}`]]);
    }
    const cascade = force ? 'cascade' : 'restrict';
    await transact(session, busy, 'the schemas', [
      ...inventory.views.map((view) => [`drop view if exists ${view} ${cascade}`] as const),
      ...inventory.tables.map((table) => [`drop table if exists ${table} ${cascade}`] as const),
      ...inventory.schemas.map((schema) => [`drop schema ${schema} cascade`] as const),
    ]);
    return dropRoles(session, inventory.roles);
  });
}

function refuse(
  { schemas, connected, filled, dependants, database }: Inventory,
  { withData, force }: { withData: boolean; force: boolean },
): void {
  if (schemas.length === 0) {
    throw new RecadoError('not_migrated', `There is no Recado in database "${database}": nothing to remove.`);
  }
  const nothing = 'Nothing was changed.';
  if (connected.length > 0) {
    throw new RecadoError(
      'relays_connected',
      `Still connected: ${connected.join(', ')}. Stop every relay and worker of this database first. ${nothing}`,
    );
  }
  if (filled.length > 0 && !withData) {
    throw new RecadoError(
      'data_would_be_lost',
      `These tables hold rows and would go with it: ${filled.join(', ')}. Copy what you need, then add --with-data. ${nothing}`,
    );
  }
  if (dependants.length > 0 && !force) {
    throw new RecadoError(
      'app_depends_on_it',
      `The application uses it: ${dependants.join('; ')}. Change these first, or add --force: views and keys go with it, and functions fail when they are called. ${nothing}`,
    );
  }
}

type Statement = readonly [text: string, values?: readonly unknown[]];

async function transact(
  session: pg.ClientBase,
  busy: { log: Log; patienceMs: number },
  what: string,
  statements: readonly Statement[],
): Promise<void> {
  await retryWhileBusy(what, busy, async () => {
    try {
      await session.query(`begin; ${BRIEFLY}`);
      for (const [text, values = []] of statements) await session.query(text, [...values]);
      await session.query('commit');
    } catch (error) {
      await session.query('rollback').catch(() => undefined);
      throw error;
    }
  }).catch((error: unknown) => {
    throw new RecadoError(
      'uninstall_incomplete',
      `Not removed: ${what} (${sentenceOf(error)}). What came before is. End what keeps the table busy, then run it again.`,
      { cause: error },
    );
  });
}

/** Roles are the cluster's: another database may use them. */
async function dropRoles(session: pg.ClientBase, roles: readonly string[]): Promise<string[]> {
  const stayed: string[] = [];
  for (const role of roles) {
    try {
      await session.query(`drop role if exists ${role}`);
    } catch (error) {
      const code = errorCode(error);
      if (code === '2BP01') stayed.push(`Role ${role} stays: another database uses it.`);
      else stayed.push(`Role ${role} stays: have a superuser run "drop role ${role}".`);
    }
  }
  return stayed;
}

async function existing(session: pg.ClientBase, tables: readonly string[]): Promise<string[]> {
  const { rows } = await session.query<{ name: string }>(
    'select name from unnest($1::text[]) with ordinality as t (name, place) where to_regclass(name) is not null order by place',
    [tables],
  );
  return rows.map(({ name }) => name);
}

// $1 the schemas, $2 the roles. A view that an upgrade from 0.1 left tells so in its comment (from-0.1/move-chats.sql).
const INVENTORY = `
  with ours as (select oid, nspname from pg_namespace where nspname = any ($1)),
  our_objects as (
    select 'pg_class'::regclass as class, oid from pg_class where relnamespace in (select oid from ours)
    union all select 'pg_proc'::regclass, oid from pg_proc where pronamespace in (select oid from ours)
    union all select 'pg_type'::regclass, oid from pg_type where typnamespace in (select oid from ours)
  ),
  our_triggers as (
    select t.oid, quote_ident(t.tgname) as name, format('%I.%I', n.nspname, c.relname) as "on"
      from pg_trigger as t join pg_proc as p on p.oid = t.tgfoid
      join pg_class as c on c.oid = t.tgrelid join pg_namespace as n on n.oid = c.relnamespace
     where p.pronamespace in (select oid from ours) and c.relnamespace not in (select oid from ours)
       and not t.tgisinternal and t.tgparentid = 0
  ),
  left_views as (
    select c.oid, c.oid::regclass::text as view
      from pg_class as c
     where c.relkind = 'v' and c.relnamespace = to_regnamespace('public') and c.relname in ('chats', 'messages')
       and obj_description(c.oid, 'pg_class') like 'The table is evolution.% now.%'
  ),
  hanging as (
    select distinct d.classid, d.objid,
           case d.classid
             when 'pg_class'::regclass then d.objid
             when 'pg_rewrite'::regclass then (select ev_class from pg_rewrite where oid = d.objid)
             when 'pg_constraint'::regclass then (select conrelid from pg_constraint where oid = d.objid)
             when 'pg_attrdef'::regclass then (select adrelid from pg_attrdef where oid = d.objid)
             when 'pg_trigger'::regclass then (select tgrelid from pg_trigger where oid = d.objid)
             when 'pg_policy'::regclass then (select polrelid from pg_policy where oid = d.objid)
           end as relation
      from pg_depend as d join our_objects as o on (d.refclassid, d.refobjid) = (o.class, o.oid)
     where d.deptype = 'n'
  ),
  dependants as (
    select pg_describe_object(h.classid, h.objid, 0) as what
      from hanging as h
      left join pg_class as c on c.oid = h.relation
      left join pg_proc as p on h.classid = 'pg_proc'::regclass and p.oid = h.objid
      left join pg_type as t on h.classid = 'pg_type'::regclass and t.oid = h.objid
     where coalesce(c.relnamespace, p.pronamespace, t.typnamespace) not in (select oid from ours)
       and coalesce(h.relation, 0) not in (select v.oid from left_views as v)
       and h.objid not in (select t.oid from our_triggers as t)
       and not (h.classid = 'pg_trigger'::regclass and exists (select from pg_trigger as g where g.oid = h.objid and (g.tgisinternal or g.tgparentid <> 0)))
    union
    select format('the text of function %s', p.oid::regprocedure)
      from pg_proc as p join pg_namespace as n on n.oid = p.pronamespace
     where n.oid not in (select oid from ours) and n.nspname !~ '^(pg_|information_schema)'
       and p.prosrc ~* '\\m"?(relay|relay_clinic|evolution)"?\\s*\\.'
       and (select count(*) from ours) > 0
  )
  select current_database() as database,
         -- The schema of the core last: the others use its functions.
         array(select nspname::text from ours order by array_position($1, nspname::text) desc) as schemas,
         coalesce((select jsonb_agg(jsonb_build_object('name', name, 'on', "on") order by name, "on") from our_triggers), '[]') as triggers,
         array(select view from left_views order by view desc) as views,
         array(select rolname::text from pg_roles where rolname = any ($2) order by array_position($2, rolname::text) desc) as roles,
         array(select what from dependants order by what) as dependants,
         array(select distinct format('%s (%s, pid %s)', application_name, usename, pid) from pg_stat_activity
                where datname = current_database() and application_name ~ '^recado( |$)' and pid <> pg_backend_pid()
                order by 1) as connected`;
