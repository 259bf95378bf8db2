// A connection to a Redis that is away.
import { createLog } from '../../log.ts';
import { StreamConnection } from '../../stream/redis.ts';
import { deadPort } from '../world.ts';

test('closing the connection rejects a pending ready()', async () => {
  const url = `redis://127.0.0.1:${await deadPort()}`;
  const connection = new StreamConnection({ url, installation: 'here' }, 'test', createLog('silent', false));
  let refused = false;
  const waiting = connection.ready().catch(() => {
    refused = true;
  });
  connection.close();
  await new Promise(setImmediate);
  expect(refused).toBe(true);
  await waiting;
});
