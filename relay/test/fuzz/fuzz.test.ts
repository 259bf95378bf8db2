// The short form of npm run fuzz, with the same inputs each time; and what is spoilt on the wire, on a real relay.
import type { Relay } from '../../server/relay.ts';
import { Chance } from '../faults/chance.ts';
import { frame, RawSocket } from '../transport/hostile.ts';
import { Client, type Database, freshDatabase, startNode, token } from '../world.ts';
import { fuzz } from './inputs.ts';

test('positions, tokens, packets, addresses and envelopes: nothing but our own errors', async () => {
  expect(await fuzz(1, 21_000)).toMatchObject({ wrong: null });
});

describe('on the wire', () => {
  let database: Database;
  let relay: Relay;
  beforeAll(async () => {
    database = await freshDatabase();
    relay = await startNode(database.url);
    await relay.ready();
  });
  afterAll(async () => {
    await relay.close();
    await database.close();
  });

  test('spoilt packets and routes end no relay, and keep nobody from an event', async () => {
    const chance = new Chance(1, 'wire');
    const bystander = await new Client(relay, { token: await token() }).live();
    const good = `40${JSON.stringify({ token: await token('attacker') })}`;
    const bytes = () =>
      Buffer.from(Array.from({ length: chance.between(0, 60) }, () => chance.between(0, 255)));
    for (let n = 0; n < 150; n += 1) {
      const raw = await RawSocket.open(relay.port);
      const text = chance.one([
        good,
        `${good}x`,
        '42["auth:refresh"',
        '420["auth:refresh",{}]',
        '451-["a",{"_placeholder":true,"num":0}]',
        '41',
        '43',
        '2probe',
        '3',
        '6',
        `40/${'x'.repeat(500)},`,
        '',
      ]);
      raw.send(text, text.slice(0, chance.between(0, text.length)));
      raw.network.write(chance.happens(0.5) ? frame(chance.between(0, 15), bytes()) : bytes());
      raw.network.end();
      const path = encodeURI(
        `/${bytes()
          .toString('latin1')
          .replace(/[^!-~]/g, '%')}`,
      ).slice(0, 80);
      const { status } = await fetch(
        `http://127.0.0.1:${relay.port}/${chance.one(['', 'console/', 'api/chats/sync/', 'socket.io/?EIO=4&sid='])}${path}`,
      );
      expect([path, status]).not.toEqual([path, 500]);
    }
    await database.query(`select relay.emit('acc-1', 'doctors.created', '1')`);
    await bystander.hears(1);
    expect(bystander.disconnects).toEqual([]);
    bystander.close();
  });
});
