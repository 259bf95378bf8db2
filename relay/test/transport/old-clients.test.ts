// Stock clients older than 4.6, which keep no offset: docs/ui-developer.md says what they have to do, and this does it.
// @ts-expect-error: its package.json hides its types
import { io as io31 } from 'socket.io-client-3-1';
// @ts-expect-error: its package.json hides its types
import { io as io40 } from 'socket.io-client-4-0';
import { io as io45 } from 'socket.io-client-4-5';
import type { Relay } from '../../server/relay.ts';
import { type Database, deadPort, freshDatabase, startNode, token, until } from '../world.ts';

/** What we use of a client, the same in all versions. */
interface OldSocket {
  on(event: string, handler: (...args: never[]) => void): unknown;
  disconnect(): unknown;
}

let database: Database;
let relay: Relay;
let port: number;

beforeAll(async () => {
  database = await freshDatabase();
  await database.query(`select relay.publish('note.added')`);
});
beforeEach(async () => {
  port = await deadPort();
  await start();
});
afterEach(() => relay.close());
afterAll(() => database.close());

async function start(): Promise<void> {
  relay = await startNode(database.url, { PORT: String(port) });
  await relay.ready();
}

const add = (n: number) => database.query(`select relay.emit('acc-1', 'note.added', to_jsonb($1::int))`, [n]);

describe.each([
  ['3.1', io31 as (url: string, options: object) => OldSocket],
  ['4.0', io40 as (url: string, options: object) => OldSocket],
  ['4.5', io45 as (url: string, options: object) => OldSocket],
])('socket.io-client %s', (_, io) => {
  const options = {
    transports: ['websocket'],
    forceNew: true,
    reconnectionDelay: 20,
    reconnectionDelayMax: 200,
  };

  test('that keeps the last argument resumes: nothing is missing, nothing twice, nobody refetches', async () => {
    const bearer = await token();
    let position: string | undefined;
    const heard: number[] = [];
    const resyncs: unknown[] = [];
    const socket = io(`http://127.0.0.1:${port}`, {
      ...options,
      auth: (send: (auth: object) => void) => send({ token: bearer, position }),
    });
    for (const event of ['relay:ready', 'relay:resync', 'relay:position', 'note.added']) {
      socket.on(event, (...args: unknown[]) => {
        position = args.at(-1) as string;
        if (event === 'relay:resync') resyncs.push(args[0]);
        if (event === 'note.added') heard.push(args[0] as number);
      });
    }
    try {
      await until('it is connected', () => position !== undefined);
      await add(1);
      await until('it hears', () => heard.length === 1);
      await relay.close();
      await add(2);
      await add(3);
      await start();
      await until('it hears what it missed', () => heard.length >= 3);
      await add(4);
      await until('it hears what comes then', () => heard.length >= 4);
      expect(heard).toEqual([1, 2, 3, 4]);
      expect(resyncs).toEqual([]);
    } finally {
      socket.disconnect();
    }
  });

  test('that keeps nothing: a further relay:ready tells it that it did not resume', async () => {
    let ready = 0;
    const socket = io(`http://127.0.0.1:${port}`, { ...options, auth: { token: await token() } });
    socket.on('relay:ready', () => {
      ready += 1;
    });
    try {
      await until('it is connected', () => ready === 1);
      await relay.close();
      await start();
      await until('it is told', () => ready === 2);
    } finally {
      socket.disconnect();
    }
  });
});
