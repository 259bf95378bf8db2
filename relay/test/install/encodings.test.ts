// Databases of other encodings than UTF-8: our SQL is ASCII, and no byte of somebody's row ends the reading of others.
import { readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { migrate } from '../../install/migrate.ts';
import { packageRoot } from '../../package.ts';
import type { Relay } from '../../server/relay.ts';
import { ends } from '../ends.ts';
import { hearing } from '../hearing.ts';
import { createDatabase } from '../postgres.ts';
import { Client, type Database, openDatabase, startNode, token } from '../world.ts';

async function open(encoding: 'LATIN1' | 'SQL_ASCII'): Promise<{ database: Database; relay: Relay }> {
  const { url, close } = await createDatabase({ empty: true, encoding });
  ends.push(close);
  await migrate({ databaseUrl: url, log: hearing(() => undefined) });
  const database = openDatabase(url);
  ends.push(() => database.close());
  for (const level of ['row', 'statement']) {
    await database.query(`create table public.notes_${level} (id int primary key, account text, body text)`);
    await database.query(
      `select relay.publish('note.${level}', 'public.notes_${level}', 'INSERT', account => 'new.account', payload => 'to_jsonb(new.body)', level => '${level}')`,
    );
  }
  const relay = await startNode(url);
  ends.push(() => relay.close());
  await relay.ready();
  return { database, relay };
}

async function connect(relay: Relay, account: string): Promise<Client> {
  const client = await new Client(relay, { token: await token(account) }).live();
  ends.push(() => client.close());
  return client;
}

test('every file of SQL is ASCII, but for the sample rows of the embedded database', async () => {
  for (const folder of ['sql', 'migrations']) {
    const files = await readdir(join(packageRoot, folder), { recursive: true });
    for (const file of files.filter((name) => name.endsWith('.sql') && !name.startsWith('demo/'))) {
      const foreign = (await readFile(join(packageRoot, folder, file), 'utf8')).match(/[^\t\n\x20-\x7e]/g);
      expect({ file, foreign }).toEqual({ file, foreign: null });
    }
  }
});

test('LATIN1: installed, and clients hear what was written', async () => {
  const { database, relay } = await open('LATIN1');
  const client = await connect(relay, 'clínica');
  await database.query(`insert into public.notes_row values (1, 'clínica', 'João')`);
  expect(await client.hears(1)).toEqual(['João']);
});

test.each(['row', 'statement'])(
  'SQL_ASCII, level %s: bytes that are no UTF-8 cost their own account a refetch, and nobody else anything',
  async (level) => {
    const { database, relay } = await open('SQL_ASCII');
    const [own, other] = [await connect(relay, 'clínica'), await connect(relay, 'acc-2')];
    const writer = await database.connect();
    await writer.query(`set client_encoding = 'SQL_ASCII'`);
    const insert = `insert into public.notes_${level} select n, $1, convert_from(body, 'SQL_ASCII') from (values (1, $2::bytea)) as v(n, body)`;
    await writer.query(insert, ['clínica', Buffer.from('Jo\xe3o', 'latin1')]);
    await writer.query(`update public.notes_${level} set id = 2`);
    // Not a name of anybody's account, nor a name of an event.
    await writer.query(
      `insert into relay.events (account_id, event, payload)
     select convert_from($1, 'SQL_ASCII'), 'note.row', to_jsonb(convert_from($1, 'SQL_ASCII'))
     union all select 'acc-2', convert_from($1, 'SQL_ASCII'), 'null'`,
      [Buffer.from('\xe3', 'latin1')],
    );
    for (const account of ['clínica', 'acc-2']) {
      await writer.query(insert.replace('(1,', '(9,').replace('select n', `select n + ${account.length}`), [
        account,
        Buffer.from('João'),
      ]);
    }
    expect(await own.hears(1)).toEqual(['João']);
    expect(await other.hears(1)).toEqual(['João']);
    expect(own.of('relay:resync')).toEqual([{ reason: 'capture_failed', event: `note.${level}` }]);
    expect(other.of('relay:resync')).toEqual([]);
    expect(await database.query('select event, sqlstate from relay.failures')).toEqual([
      { event: `note.${level}`, sqlstate: '22021' },
    ]);
    // A client that comes back reads the same from the table.
    const { position } = own.heard[0]!;
    const back = new Client(relay, { token: await token('clínica'), position });
    ends.push(() => back.close());
    expect(await back.hears(1)).toEqual(['João']);
  },
);
