// Defaults of roles and of the database under which an application's writes fail, or its commits are not safe.
import type { Session } from '../../outbox/events.ts';
import { type Finding, ok, warning } from './finding.ts';

interface Harmful {
  readonly setting: string;
  /** How the value may be written: Postgres keeps a setting as it was entered. */
  readonly values: readonly string[];
  readonly harm: string;
}

const ON = ['on', 'true', 'yes', '1'];
const OFF = ['off', 'false', 'no', '0'];

const HARMFUL: readonly Harmful[] = [
  {
    setting: 'default_transaction_isolation',
    values: ['serializable', 'repeatable read'],
    harm: 'concurrent transactions fail with "could not serialize access", and the application must retry them; the relay\'s own sessions override it',
  },
  {
    setting: 'default_transaction_read_only',
    values: ON,
    harm: 'every transaction that writes fails unless it says "read write"; only a role that never writes should have it',
  },
  {
    setting: 'synchronous_commit',
    values: OFF,
    harm: 'where it is switched off after an event was captured, a crash may undo what clients have seen',
  },
];

/** Of roles, of this database, of functions, and of the server. */
const FIND = `
  with found(owner, setting) as (
    select concat_ws(' in ', case when s.setrole <> 0 then format('role %I', pg_get_userbyid(s.setrole)) end,
                             case when s.setdatabase <> 0 then format('database %I', current_database()) end),
           unnest(s.setconfig)
      from pg_db_role_setting as s
     where s.setdatabase = 0 or s.setdatabase = (select oid from pg_database where datname = current_database())
    union all
    select format('function %s', p.oid::regprocedure), unnest(p.proconfig) from pg_proc as p
    union all
    select 'system', format('%s=%s', name, setting) from pg_settings where source in ('configuration file', 'command line')
  )
  select owner, split_part(setting, '=', 1) as setting, split_part(setting, '=', 2) as value
    from found where lower(setting) = any ($1)
   order by 1, 2`;

export async function findDefaults(session: Session): Promise<Finding[]> {
  const settings = HARMFUL.flatMap(({ setting, values }) => values.map((value) => `${setting}=${value}`));
  const { rows } = await session.query<{ owner: string; setting: string; value: string }>(FIND, [settings]);
  if (rows.length === 0) return [ok('defaults', 'none makes writes fail or commits unsafe')];
  return rows.map(({ owner, setting, value }) => {
    const harm = HARMFUL.find((each) => each.setting === setting)?.harm;
    return warning(
      'defaults',
      `${owner} has ${setting} = ${value}: ${harm}. To end it: alter ${owner} reset ${setting}.`,
    );
  });
}
