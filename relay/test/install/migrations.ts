// Databases that are migrated, by this release or by another, and what is in them afterwards.
import { cp, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type MigrateOptions, migrate } from '../../install/migrate.ts';
import { packageRoot } from '../../package.ts';
import { ends } from '../ends.ts';
import { hearing } from '../hearing.ts';
import { createDatabase, type TestDatabase } from '../postgres.ts';

export const ALL = [
  'relay/001_relay',
  'relay/002_limits',
  'relay/003_ascii',
  'relay/004_packs',
  'relay/005_capture',
  'relay/006_known_names',
  'relay/007_condition_in',
  'relay/008_epoch',
  'relay/009_several_tables',
  'relay/010_audience',
  'relay/011_revoked_topics',
  'relay/012_published_audience',
  'relay/013_several_accounts',
  'relay/014_lz4',
  'relay/015_traceparent',
  'relay/016_left_out',
  'clinic/001_clinic_tables',
  'whatsapp/001_chats',
  'whatsapp/002_worker',
  'whatsapp/003_live_servers',
  'whatsapp/004_addresses',
  'whatsapp/005_instance_made_anew',
];

export async function open(how: 'migrated' | 'empty' = 'empty'): Promise<TestDatabase> {
  const database = await createDatabase({ empty: how === 'empty' });
  ends.push(() => database.close());
  return database;
}

export const silent = hearing(() => undefined);

/** With both packs, unless told otherwise. */
export function run({ url }: TestDatabase, options: Partial<MigrateOptions> = {}) {
  return migrate({ databaseUrl: url, log: silent, packs: ['clinic', 'whatsapp'], ...options });
}

/** Another release: our files, changed. */
export async function release(changes: Record<string, (text: string) => string>): Promise<string> {
  const root = await mkdtemp(join(tmpdir(), 'recado-release-'));
  ends.push(() => rm(root, { recursive: true }));
  for (const folder of ['migrations', 'sql']) {
    await cp(join(packageRoot, folder), join(root, folder), { recursive: true });
  }
  for (const [file, change] of Object.entries(changes)) {
    const path = join(root, file);
    await writeFile(path, change(await readFile(path, 'utf8').catch(() => '')));
  }
  return root;
}

/** Everything the catalogs say about our schemas and the application's, one line per thing. */
export async function describeSchema({ pool }: TestDatabase): Promise<string[]> {
  const { rows } = await pool.query<{ line: string }>(`
    with ours as (
      select oid, nspname as name, nspowner, nspacl from pg_namespace
       where nspname not like 'pg\\_%' and nspname <> 'information_schema'
    ),
    comments as (
      select classoid, objoid, objsubid, description from pg_description
    )
    select format('schema %s owner %s acl %s', name, nspowner::regrole, nspacl) as line from ours where name <> 'public'
    union all
    select format('relation %s %s owner %s acl %s partition %s key %s options %s comment %s', c.oid::regclass, c.relkind, c.relowner::regrole,
                  c.relacl, pg_get_expr(c.relpartbound, c.oid), pg_get_partkeydef(c.oid), c.reloptions, obj_description(c.oid, 'pg_class'))
      from pg_class as c join ours on ours.oid = c.relnamespace where c.relkind in ('r', 'p', 'v', 'm', 'S')
    union all
    select format('view %s %s', c.oid::regclass, pg_get_viewdef(c.oid)) from pg_class as c join ours on ours.oid = c.relnamespace where c.relkind = 'v'
    union all
    select format('column %s.%s %s %s null %s default %s identity %s generated %s acl %s comment %s', c.oid::regclass, a.attname, a.attnum,
                  format_type(a.atttypid, a.atttypmod), not a.attnotnull, pg_get_expr(d.adbin, d.adrelid), a.attidentity, a.attgenerated,
                  a.attacl, col_description(c.oid, a.attnum))
      from pg_attribute as a join pg_class as c on c.oid = a.attrelid join ours on ours.oid = c.relnamespace
      left join pg_attrdef as d on (d.adrelid, d.adnum) = (a.attrelid, a.attnum)
     where a.attnum > 0 and not a.attisdropped and c.relkind in ('r', 'p', 'v')
    union all
    select format('index %s', pg_get_indexdef(i.indexrelid)) from pg_index as i join pg_class as c on c.oid = i.indrelid join ours on ours.oid = c.relnamespace
    union all
    select format('constraint %s on %s %s', k.conname, coalesce(k.conrelid::regclass::text, k.contypid::regtype::text), pg_get_constraintdef(k.oid))
      from pg_constraint as k join ours on ours.oid = k.connamespace where k.contype <> 't'
    union all
    select format('function %s owner %s acl %s comment %s', pg_get_functiondef(p.oid), p.proowner::regrole, p.proacl, obj_description(p.oid, 'pg_proc'))
      from pg_proc as p join ours on ours.oid = p.pronamespace
    union all
    select format('trigger %s %s comment %s', pg_get_triggerdef(t.oid), t.tgenabled, obj_description(t.oid, 'pg_trigger'))
      from pg_trigger as t join pg_class as c on c.oid = t.tgrelid join ours on ours.oid = c.relnamespace where not t.tgisinternal
    union all
    select format('type %s %s owner %s acl %s comment %s', t.oid::regtype, t.typtype, t.typowner::regrole, t.typacl, obj_description(t.oid, 'pg_type'))
      from pg_type as t join ours on ours.oid = t.typnamespace where t.typtype in ('d', 'e')
    order by line`);
  return rows.map(({ line }) => line);
}

/** The contract as it was published, apart from when. */
export async function describeContract({ pool }: TestDatabase): Promise<unknown[]> {
  const { rows } = await pool.query<{ row: Record<string, unknown> }>(
    `select to_jsonb(c) - 'published_at' as row from relay.catalogue as c order by event, operation`,
  );
  return rows.map(({ row }) => row);
}
