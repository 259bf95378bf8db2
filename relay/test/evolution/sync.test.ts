// A sync that somebody asks for.
import { requestSync } from '../../evolution/sync.ts';
import { addFake, connect, contents, hasRead, insert, server, until, world } from './one-worker.ts';

test('a requested sync reads what is old and was never heard', async () => {
  const evolution = await server();
  const fake = await connect(evolution);
  fake.message({ text: 'today' });
  await until(
    () => contents(fake),
    (c) => c.length === 1,
  );
  const tenDaysAgo = Math.floor(Date.now() / 1_000) - 10 * 86_400;
  for (let n = 0; n < 5; n++) fake.message({ text: `old ${n}`, messageTimestamp: tenDaysAgo + n }, true);
  await requestSync(world.pool, { accountId: `t-${fake.name}`, instanceName: fake.name, timeoutMs: 60_000 });
  expect(await contents(fake)).toHaveLength(6);
});

describe('sync on request', () => {
  test('created and updated chats are counted; then nothing is new', async () => {
    const evolution = await server();
    const fake = await connect(evolution);
    await hasRead(fake);
    for (let i = 0; i < 3; i++)
      fake.message({ text: 'x', jid: `551199999000${i}@s.whatsapp.net`, pushName: 'Ana' }, true);
    const ask = { accountId: `t-${fake.name}`, instanceName: fake.name, timeoutMs: 60_000 };
    expect(await requestSync(world.pool, ask)).toEqual({ created: 3, updated: 0 });
    fake.message({ text: 'y', jid: '5511999990001@s.whatsapp.net', pushName: 'Ana' }, true);
    expect(await requestSync(world.pool, ask)).toEqual({ created: 0, updated: 1 });
    expect(await requestSync(world.pool, ask)).toEqual({ created: 0, updated: 0 });
  });

  test('404 for another account, 409 while running, 502 with the reason, 504', async () => {
    const evolution = await server();
    const fake = await connect(evolution);
    const ask = { accountId: `t-${fake.name}`, instanceName: fake.name, timeoutMs: 60_000 };
    await expect(requestSync(world.pool, { ...ask, accountId: 'someone-else' })).rejects.toMatchObject({
      code: 'sync_instance_unknown',
      httpStatus: 404,
    });
    await expect(requestSync(world.pool, { ...ask, instanceName: 'nope' })).rejects.toMatchObject({
      httpStatus: 404,
    });
    evolution.fail('findChats', {
      status: 400,
      body: '{"status":400,"error":"Bad Request","response":{"message":[["instance requires property \\"x\\""]]}}',
    });
    await expect(requestSync(world.pool, ask)).rejects.toMatchObject({
      code: 'sync_refused',
      httpStatus: 502,
      message: expect.stringContaining('requires property "x"'),
    });
    evolution.fail('findChats', null);
    await world.rows(
      `insert into evolution.sync_requests (instance_id, state) select id, 'running' from evolution.instances where name = $1`,
      [fake.name],
    );
    await expect(requestSync(world.pool, ask)).rejects.toMatchObject({
      code: 'sync_running',
      httpStatus: 409,
    });
    await world.rows(
      `update evolution.sync_requests set state = 'failed', finished_at = now() where state = 'running'`,
    );
    const nobody = addFake(evolution);
    await insert(nobody, evolution.url);
    await world.rows(`update evolution.instances set desired = 'disconnected' where name = $1`, [
      nobody.name,
    ]);
    await expect(
      requestSync(world.pool, { ...ask, accountId: `t-${nobody.name}`, instanceName: nobody.name }),
    ).rejects.toMatchObject({ code: 'sync_instance_disabled', httpStatus: 409 });
    const elsewhere = addFake(evolution);
    // Held by a worker that does not answer.
    await world.rows(
      `with i as (insert into evolution.instances (name, "tenantId", host, "apiKey") values ($1, $2, $3, $4) returning id)
       insert into evolution.leases (instance_id, worker_id, until) select id, gen_random_uuid(), now() + interval '1 hour' from i`,
      [elsewhere.name, `t-${elsewhere.name}`, evolution.url, elsewhere.token],
    );
    const unanswered = { accountId: `t-${elsewhere.name}`, instanceName: elsewhere.name, timeoutMs: 250 };
    await expect(requestSync(world.pool, unanswered)).rejects.toMatchObject({
      code: 'sync_timeout',
      httpStatus: 504,
    });
    await world.rows('delete from evolution.instances where name = $1', [elsewhere.name]);
  });
});
