// Processes behind one port that come and go.
import { connect as openConnection, type Socket } from 'node:net';
import { until } from '../world.ts';
import {
  ask,
  clients,
  connect,
  everything,
  first,
  gone,
  PROCESSES,
  port,
  start,
  tell,
  told,
  workers,
} from './processes.ts';

function send(text: string): Socket {
  const socket = openConnection(port, '127.0.0.1', () => socket.write(text));
  socket.on('error', () => undefined);
  return socket.resume();
}

test('a worker that is killed is replaced, and its clients go on where they were', async () => {
  await connect(8);
  await tell();
  for (const client of clients) await client.hears(told);
  const before = await workers();
  process.kill(before[0]!, 'SIGKILL');
  await tell();
  await until('all processes are ready again', async () => {
    const now = await workers();
    return now.length === PROCESSES && !now.includes(before[0]!) && (await ask('/readyz')).status === 200;
  });
  await tell();
  await until('those it had are back', () => clients.every(({ socket }) => socket.connected));
  for (const client of clients) expect(await client.hears(told)).toEqual(everything());
  const returned = clients.filter(({ connects }) => connects.length > 1);
  expect(returned.length).toBeGreaterThan(0);
  for (const { connects } of returned) expect(connects.at(-1)!.recovered).toBe(true);
  for (const client of clients) expect(client.of('relay:resync')).toEqual([]);
});

test('a restart: no client is taken before a process can have it, so all are back without a time-out', async () => {
  await connect(30);
  await tell();
  for (const client of clients) await client.hears(told);
  first.kill('SIGTERM');
  await gone;
  await tell();
  start();
  await until('all are back', () => clients.every(({ socket }) => socket.connected), 60_000);
  const attempts = clients.flatMap(({ refusals }) => refusals.map(({ message }) => message));
  expect(attempts.filter((message) => message === 'timeout')).toEqual([]);
  for (const client of clients) expect(await client.hears(told)).toEqual(everything());
  for (const client of clients) expect(client.of('relay:resync')).toEqual([]);
}, 90_000);

test('readiness is that of all: it is refused while one process is missing', async () => {
  const [, ...spared] = await workers();
  await until('it is refused', async () => {
    // Those that replace it too, or one is missing for two seconds only.
    for (const pid of (await workers()).filter((each) => !spared.includes(each))) {
      process.kill(pid, 'SIGKILL');
      spared.push(pid);
    }
    const { status, text } = await ask('/readyz');
    return status === 503 && text.includes(`(1 of ${PROCESSES} processes)`);
  });
  await until('it is granted', async () => (await ask('/readyz')).status === 200, 60_000);
});

test('a connection on its way to a worker that ends is closed', async () => {
  const pids = await workers();
  // None of them takes what it is handed.
  for (const pid of pids) process.kill(pid, 'SIGSTOP');
  const requests = Array.from({ length: 2 * PROCESSES }, () =>
    send('GET /readyz HTTP/1.1\r\nHost: x\r\n\r\n'),
  );
  await until('all are sent', () => requests.every(({ bytesWritten }) => bytesWritten > 0));
  // The first process refuses this one itself, after it has read the others.
  const refused = send('GET /events HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n');
  await until('they are handed over', () => refused.closed);
  for (const pid of pids) process.kill(pid, 'SIGKILL');
  await until('they are closed', () => requests.every(({ closed }) => closed));
});

test('SIGTERM ends the first process and its workers, with exit code 0', async () => {
  await connect(4);
  const pids = await workers();
  first.kill('SIGTERM');
  expect(await gone).toEqual([0, null]);
  for (const pid of pids) expect(() => process.kill(pid, 0)).toThrow('ESRCH');
});
