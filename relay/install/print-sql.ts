// What `recado migrate` does, as SQL text: for an ORM's own migration, its shadow database, or a test's. It may be run
// again, and a later `recado migrate` continues from what it made.
import { readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { Pack } from './migrate.ts';

const HEAD = `-- Recado, printed by recado migrate --print-sql. Run it in one transaction. If run again, it replaces functions and
-- leaves tables alone. It makes no roles: recado migrate, run later, gives the schema to relay_owner.
`;

/** @param root the folder that holds migrations/ and sql/ */
export async function printSql(
  root: string,
  packs: readonly { pack: Pack; folder: string; makesTables: boolean }[],
): Promise<string> {
  const parts = [HEAD, 'create schema if not exists relay;', await history(root, 'relay', 'migrations')];
  for (const { pack, makesTables } of packs) {
    parts.push(
      `insert into relay.packs (pack, makes_tables) values ('${pack}', ${makesTables}) on conflict (pack) do nothing;`,
    );
    if (makesTables) parts.push(await history(root, pack, `${pack}_migrations`));
  }
  for (const folder of ['relay', ...packs.map(({ folder }) => folder)]) {
    for (const file of await filesIn(join(root, 'sql', folder))) {
      const text = await readFile(join(root, 'sql', folder, file), 'utf8');
      parts.push(`-- sql/${folder}/${file}`, text.replace(/^select relay\.secure\(\);$/m, ''));
    }
  }
  return parts.join('\n');
}

/** Each migration once, with its row in the history that node-pg-migrate reads. */
async function history(root: string, folder: string, table: string): Promise<string> {
  const parts = [
    `create table if not exists relay.${table} (id serial primary key, name varchar(255) not null, run_on timestamp not null);`,
  ];
  for (const file of await filesIn(join(root, 'migrations', folder))) {
    const name = file.replace(/\.sql$/, '');
    const text = await readFile(join(root, 'migrations', folder, file), 'utf8');
    parts.push(`-- migrations/${folder}/${file}
do $recado_once$
begin
  if not exists (select from relay.${table} where name = '${name}') then
    execute $recado_migration$
${text.split(/^-- Down Migration/m)[0]}
$recado_migration$;
    insert into relay.${table} (name, run_on) values ('${name}', now());
  end if;
end
$recado_once$;`);
  }
  return parts.join('\n');
}

async function filesIn(folder: string): Promise<string[]> {
  return (await readdir(folder)).filter((file) => file.endsWith('.sql')).sort();
}
