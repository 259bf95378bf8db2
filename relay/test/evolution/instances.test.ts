// Several instances: of one host, of several tenants, deleted, added again, shared by two workers.
import { startEvolutionWorker } from '../../evolution/worker.ts';
import {
  addFake,
  becomes,
  connect,
  contents,
  insert,
  log,
  pace,
  server,
  stores,
  until,
  world,
} from './one-worker.ts';

test('two tenants may call their instances alike, on servers of their own', async () => {
  const [one, other] = [await server(), await server()];
  const fakes = [one.add('principal'), other.add('principal')];
  for (const [n, to] of [one, other].entries())
    await world.rows(
      'insert into evolution.instances (name, "tenantId", host, "apiKey") values ($1, $2, $3, $4)',
      ['principal', `tenant-${n}`, to.url, fakes[n]!.token],
    );
  for (const fake of fakes) fake.message({ text: 'oi' });
  await until(
    () => world.rows('select 1 from evolution.messages where "instanceName" = $1', ['principal']),
    (rows) => rows.length === 2,
  );
  await expect(world.rows(`select evolution.request_sync('principal')`)).rejects.toThrow(/several tenants/);
  await expect(
    world.rows('insert into evolution.instances (name, "tenantId", host, "apiKey") values ($1, $2, $3, $4)', [
      'principal',
      'a-third',
      `${one.url}/`,
      'k',
    ]),
  ).rejects.toThrow(/belongs_to_one_tenant/);
});

test('an unknown instance is not_found; a server that does not answer is unreachable', async () => {
  const evolution = await server();
  const fake = addFake(evolution);
  evolution.remove(fake.name);
  await insert(fake, evolution.url, { apiKey: 'GLOBAL-KEY-SECRET' });
  await becomes(fake, 'not_found');
  await world.rows('update evolution.instances set host = $2 where name = $1', [
    fake.name,
    'http://127.0.0.1:9',
  ]);
  await becomes(fake, 'unreachable');
});

test('several instances on one host, each with its own key; deleting a row hangs up', async () => {
  const evolution = await server();
  const [one, other] = [await connect(evolution), await connect(evolution)];
  one.message({ text: 'para um' });
  other.message({ text: 'para outro' });
  await stores(one, 'para um');
  await stores(other, 'para outro');
  expect(evolution.sockets).toBe(2);
  await world.rows('delete from evolution.instances where name = $1', [one.name]);
  await until(
    () => evolution.sockets,
    (n) => n === 1,
  );
  await world.rows(`update evolution.instances set desired = 'disconnected' where name = $1`, [other.name]);
  await until(
    () => evolution.sockets,
    (n) => n === 0,
  );
  await becomes(other, 'disconnected');
});

test('a deleted instance that is added again finds its chats; another tenant gets none of them', async () => {
  const evolution = await server();
  const fake = await connect(evolution);
  fake.message({ text: 'um' });
  await until(
    () => contents(fake),
    (c) => c.length === 1,
  );
  await world.rows('delete from evolution.instances where name = $1', [fake.name]);
  await insert(fake, evolution.url);
  await becomes(fake, 'connected');
  fake.message({ text: 'dois' });
  await until(
    () => contents(fake),
    (c) => c.length === 2,
  );
  expect(
    await world.rows('select id from evolution.chats where "instanceName" = $1', [fake.name]),
  ).toHaveLength(1);
  await world.rows('update evolution.instances set "tenantId" = $2 where name = $1', [fake.name, 'another']);
  await until(
    () =>
      world.rows<{ tenantId: string; n: number }>(
        'select "tenantId", count(*)::int as n from evolution.messages where "instanceName" = $1 group by 1 order by 1',
        [fake.name],
      ),
    (rows) => rows.length === 2 && rows[0]!.tenantId === 'another' && rows[0]!.n === 2,
  );
});

test('two workers share the instances; one closes and the other takes over at once', async () => {
  const evolution = await server();
  const fakes = [await connect(evolution), await connect(evolution), await connect(evolution)];
  const second = await startEvolutionWorker({ pool: world.pool, connectionString: world.url, log, pace });
  const shares = () =>
    world.rows<{ n: number }>(
      'select count(*)::int as n from evolution.leases where until > now() group by worker_id order by 1',
    );
  await until(shares, (rows) => rows.length === 2 && rows[1]!.n - rows[0]!.n <= 1);
  await second.close();
  // It holds nothing any more, so the other one does not wait until its leases end.
  const held = 'select from evolution.leases where worker_id not in (select id from evolution.workers)';
  expect(await world.rows('select from evolution.workers')).toHaveLength(1);
  expect(await world.rows(held)).toEqual([]);
  await until(shares, (rows) => rows.length === 1);
  for (const fake of fakes) {
    await becomes(fake, 'connected');
    fake.message({ text: 'ainda aqui' });
    await stores(fake, 'ainda aqui');
  }
});
