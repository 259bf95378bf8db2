// The stored events that Eventos begins with.
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { LOOKED_THROUGH, MOST_STORED } from '../../console/events.ts';
import { packageRoot } from '../../package.ts';
import { useNodes } from '../nodes.ts';
import { type Database, freshDatabase, token } from '../world.ts';

let database: Database;
beforeAll(async () => {
  database = await freshDatabase();
  await database.query("select relay.publish(event => 'chat.message')");
});
afterAll(() => database.close());
const { node } = useNodes(() => database);

test('what a token hears is found behind many events that it does not hear', async () => {
  await database.query(`insert into relay.events (account_id, event, payload, audience) values
    ('acc-1', 'chat.message', '"for all"', null), ('acc-1', 'chat.message', '"for ana"', '{user:ana}')`);
  await database.query(`insert into relay.events (account_id, event, payload, audience)
    select 'acc-1', 'chat.message', '"for bruno"', '{user:bruno}' from generate_series(1, 300)`);
  const { port } = await node();
  const headers = { authorization: `Bearer ${await token('acc-1', { subject: 'ana' })}` };
  const stored = async (query: string) => {
    const answer = await fetch(`http://127.0.0.1:${port}/console/events${query}`, { headers });
    const { events } = (await answer.json()) as { events: { payload: string }[] };
    return events.map(({ payload }) => payload);
  };
  expect(await stored('')).toEqual(['for all', 'for ana']);
  expect(await stored('?topic=user:ana')).toEqual(['for ana']);
});

test('the page tells how many it shows, and among how many they are searched', async () => {
  const page = await readFile(join(packageRoot, 'relay/console/page/index.html'), 'utf8');
  const number = new Intl.NumberFormat('pt-BR');
  expect(page).toContain(
    `últimos ${number.format(MOST_STORED)}, procurados entre os ${number.format(LOOKED_THROUGH)} mais novos`,
  );
});
