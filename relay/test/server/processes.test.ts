// Several processes behind one port: stock clients of both transports, one set of metrics, one state of health.
import { recado } from '../commands/recado.ts';
import { Client, OPERATOR_TOKEN, token, until } from '../world.ts';
import {
  clients,
  connect,
  database,
  everything,
  first,
  log,
  metric,
  PROCESSES,
  port,
  stopping,
  tell,
  told,
  workers,
} from './processes.ts';

test('clients of both transports connect to either process, and hear everything in order', async () => {
  await connect(12);
  await tell();
  for (const client of clients) await client.hears(told);
  const upgraded = () => clients.every(({ socket }) => socket.io.engine.transport.name === 'websocket');
  await until('those that began with polling are upgraded', upgraded);
  for (let n = 0; n < 20; n += 1) await tell();
  for (const client of clients) expect(await client.hears(told)).toEqual(everything());
  // Both have clients: with one only, the sums below would say nothing.
  expect(await workers()).toHaveLength(PROCESSES);
});

test('a client that stays with polling reaches its process with every request', async () => {
  clients.push(new Client(port, { token: await token() }, { transports: ['polling'] }));
  await connect(0);
  for (let n = 0; n < 20; n += 1) await tell();
  expect(await clients[0]!.hears(told)).toEqual(everything());
  expect(clients[0]!.disconnects).toEqual([]);
});

test('clients that begin with polling at the same moment all find their sessions again', async () => {
  const opening = `http://127.0.0.1:${port}/socket.io/?EIO=4&transport=polling`;
  const answers = Array.from({ length: 4 * PROCESSES }, async () => {
    const { sid } = JSON.parse((await (await fetch(opening)).text()).slice(1)) as { sid: string };
    return (await fetch(`${opening}&sid=${sid}`, { method: 'POST', body: '1' })).text();
  });
  expect(await Promise.all(answers)).toEqual(answers.map(() => 'ok'));
});

test('a ticket of one process is good in all of them, once', async () => {
  const authorization = `Bearer ${await token()}`;
  for (let n = 0; n < 2 * PROCESSES; n += 1) {
    const events = `http://127.0.0.1:${port}/events`;
    const given = await fetch(`${events}/ticket`, { method: 'POST', headers: { authorization } });
    const { ticket } = (await given.json()) as { ticket: string };
    const stop = new AbortController();
    // Held open, so that the next connection leads to another process.
    const stream = await fetch(`${events}?ticket=${ticket}`, { signal: stop.signal });
    const again = await fetch(`${events}?ticket=${ticket}`);
    expect([given.status, stream.status, again.status]).toEqual([201, 200, 401]);
    stopping.push(stop);
  }
});

test('metrics are those of all processes together, whoever answers', async () => {
  await connect(8);
  const before = await metric('recado_deliveries_total');
  await tell();
  for (const client of clients) await client.hears(told);
  for (let asked = 0; asked < 4; asked += 1) {
    await until('the sockets are summed', async () => (await metric('recado_sockets')) === 8);
    await until('all listen', async () => (await metric('recado_listening')) === 1);
    expect(await metric('nodejs_eventloop_lag_p99_seconds')).toBeGreaterThan(0);
    await until(
      'the deliveries are summed',
      async () => (await metric('recado_deliveries_total')) === before + 8,
    );
  }
});

test('trace asks all processes, whichever answers', async () => {
  await connect(8);
  await until('the clients of earlier tests are gone', async () => (await metric('recado_sockets')) === 8);
  await tell();
  const events = await database.query<{ id: string }>('select max(id)::text as id from relay.events');
  const env = { DATABASE_URL: database.url, OPERATOR_TOKEN, PORT: String(port) };
  const emitted = async () => {
    const { stdout } = await recado(['trace', events[0]!.id], env);
    return [...stdout.matchAll(/^emitted .* (\d+) live sockets .*process (\d+)\)$/gm)];
  };
  const lines = await until('all have emitted it', async () => {
    const answer = await emitted();
    return answer.length === PROCESSES ? answer : null;
  });
  expect(lines.map(([, , pid]) => Number(pid)).sort()).toEqual((await workers()).sort());
  expect(lines.reduce((sum, [, sockets]) => sum + Number(sockets), 0)).toBe(8);
});

test('SIGUSR2 switches all processes to debug, and back', async () => {
  const said = (what: string) => log.filter((line) => line.includes(what)).length;
  await connect(PROCESSES);
  expect(said('"client_came"')).toBe(0);
  first.kill('SIGUSR2');
  const debugging = async () => {
    await connect(1);
    return said('"client_came"') >= PROCESSES;
  };
  await until('clients are said', debugging);
  first.kill('SIGUSR2');
  await until('the level is back', () => said('"lowest":"info"') === 1);
});

test('the first process reads the database for all', async () => {
  await connect(6);
  await tell();
  for (const client of clients) await client.hears(told);
  await until('it has one session for each purpose, and nobody else has any', async () => {
    const readers = await database.query<{ sessions: number }>(
      `select count(*)::int as sessions from pg_stat_activity
        where datname = current_database() and application_name in ('recado feed', 'recado wakeup') group by application_name`,
    );
    return readers.length === 2 && readers.every(({ sessions }) => sessions === 1);
  });
  await until('all take what it reads', async () => (await metric('recado_edge_streaming')) === 1);
});

test('while the first process is frozen the workers read the database', async () => {
  const auth = { token: await token() };
  for (let n = 0; n < 6; n += 1) clients.push(new Client(port, auth));
  await connect(0);
  first.kill('SIGSTOP');
  try {
    await tell();
    for (const client of clients) expect(await client.hears(told)).toEqual(everything());
  } finally {
    first.kill('SIGCONT');
  }
  await until('they take what it reads', async () => (await metric('recado_edge_streaming')) === 1);
  await tell();
  for (const client of clients) expect(await client.hears(told)).toEqual(everything());
  for (const client of clients) expect(client.of('relay:resync')).toEqual([]);
});
