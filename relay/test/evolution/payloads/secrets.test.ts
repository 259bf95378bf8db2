// What an error of an Evolution server says: never the key, nor the credentials of its address.
import { createServer } from 'node:http';
import { createApi } from '../../../evolution/api/api.ts';
import { portOf } from '../../../port.ts';

async function complaint(host: string, apiKey: string): Promise<string> {
  const { signal } = new AbortController();
  const api = createApi({ host, instance: 'x', apiKey, signal, attempts: 1 });
  return api.subscribe().then(
    () => 'none',
    (error: Error) => error.message,
  );
}

test('a key with a line break, which no header can carry', async () => {
  const said = await complaint('http://127.0.0.1:1', 'first-half\nsecond-half');
  expect(said).toContain('no answer');
  expect(said).not.toMatch(/first-half|second-half/);
});

test('credentials in the address', async () => {
  const said = await complaint('http://admin:hidden@127.0.0.1:1', 'key');
  expect(said).toContain('no answer from http://***@127.0.0.1:1/');
  expect(said).not.toMatch(/admin|hidden/);
});

test('a key that the server repeats is hidden, even where its answer is cut within the key', async () => {
  const key = 'a-long-key-that-is-secret';
  const server = createServer((_request, response) => {
    response.writeHead(400).end(JSON.stringify({ message: `${'x'.repeat(290)}${key}` }));
  }).listen(0, '127.0.0.1');
  await new Promise((resolve) => server.once('listening', resolve));
  const said = await complaint(`http://127.0.0.1:${portOf(server)}`, key);
  server.close();
  expect(said).toContain('xxx');
  expect(said).not.toContain('a-long');
});
