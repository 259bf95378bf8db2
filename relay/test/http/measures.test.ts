// What a scrape measures in the database: of now, not of what was cured.
import { FailedCaptures } from '../../delivery/failed-captures.ts';
import type { Relay } from '../../server/relay.ts';
import { hearing } from '../hearing.ts';
import { type Database, freshDatabase, OPERATOR, startNode, until } from '../world.ts';

let database: Database;
let relay: Relay;

beforeAll(async () => {
  database = await freshDatabase();
  await database.query('create table public.visits (id int, account int)');
  relay = await startNode(database.url);
  await relay.ready();
});
afterAll(async () => {
  await relay?.close();
  await database?.close();
});

test('a capture that failed counts until its event is published again', async () => {
  await publish(`to_jsonb(1 / (new.id - 1))`);
  await database.query('insert into public.visits values (1, 1)');
  expect(await measured('recado_capture_failures')).toBe(1);
  await publish('to_jsonb(new.id)');
  expect(await measured('recado_capture_failures')).toBe(0);
});

test('a session that reads events and asks for nothing shows as the slowest reader', async () => {
  const frozen = await database.connect();
  await frozen.query(`set application_name = 'recado feed'`);
  try {
    await until('it is seen', async () => (await measured('recado_slowest_reader_seconds')) > 2);
  } finally {
    await frozen.end();
  }
  await until('it is gone', async () => (await measured('recado_slowest_reader_seconds')) < 2);
});

test('a failed capture leaves a line, the first of an event in a minute, without values of the row', () => {
  const said: string[] = [];
  const captures = new FailedCaptures(hearing((name, fields) => said.push(`${name} ${fields}`)));
  const failed = {
    reason: 'capture_failed',
    event: 'visits.made',
    table: 'public.visits',
    sqlstate: '22012',
  };
  const payload = JSON.stringify({ ...failed, error: 'division of Ana by zero' });
  for (let times = 0; times < 3; times += 1) captures.note({ event: 'relay:resync', payload });
  captures.note({ event: 'relay:resync', payload: '{"reason": "truncated"}' });
  captures.note({ event: 'visits.made', payload });
  expect(said).toEqual([
    'capture_failed {"name":"visits.made","table":"public.visits","sqlstate":"22012","unsaid":0}',
  ]);
});

async function publish(payload: string): Promise<void> {
  await database.query(
    `select relay.publish('visits.made', 'public.visits', 'INSERT', account => 'new.account', payload => $1)`,
    [payload],
  );
}

async function measured(name: string): Promise<number> {
  const response = await fetch(`http://127.0.0.1:${relay.port}/metrics`, { headers: OPERATOR });
  const line = (await response.text()).split('\n').find((text) => text.startsWith(`${name} `));
  return Number(line?.split(' ')[1]);
}
