// A relay that closes, with clients that do not answer and databases that do not either.
import type { Relay } from '../../server/relay.ts';
import { account, client, database, emit, link, start } from '../one-database.ts';
import { type Client, deadPort, through, token, until } from '../world.ts';

/** A close may take three seconds. Whatever it must not wait for takes ten. */
const CLOSED_WITHIN_MS = 9_000;

async function closesInTime(relay: Relay): Promise<void> {
  let closed = false;
  void relay.close().then(() => {
    closed = true;
  });
  await until('the relay is closed', () => closed, CLOSED_WITHIN_MS);
}

function attempts({ socket }: Client): boolean {
  return socket.io.engine.readyState === 'open';
}

describe('close()', () => {
  test('sends everybody away so that they come back, also past a client that does not answer', async () => {
    const relay = await start();
    const { port } = relay;
    const way = await link(port);
    const frozen = client(way, { token: await token(account) });
    const clients = [
      client(relay, { token: await token(account) }),
      client(relay, { token: await token(account) }, { transports: ['polling'] }),
    ];
    await Promise.all([frozen, ...clients].map((c) => c.live()));
    way.freeze();
    await Promise.all([closesInTime(relay), closesInTime(relay)]);
    way.thaw();
    await start({ PORT: String(port) });
    for (const c of [frozen, ...clients]) {
      await c.live(2);
      expect(c.connects[1]).toMatchObject({ recovered: true });
    }
    await emit(1);
    for (const c of [frozen, ...clients]) expect(await c.hears(1)).toEqual([1]);
  });

  test.each(['away', 'frozen'])('ends in time while the database is %s', async (how) => {
    const way = await link(Number(new URL(database.url).port));
    if (how === 'away') way.point(await deadPort());
    else way.freeze();
    const relay = await start({}, through(way, database.url));
    const c = client(relay, { token: await token(account) });
    await until('an attempt', () => attempts(c));
    await closesInTime(relay);
    if (how === 'frozen') way.cut();
  });

  test('ends in time when the database freezes under way', async () => {
    const way = await link(Number(new URL(database.url).port));
    const relay = await start({ WINDOW_EVENTS: '100' }, through(way, database.url));
    await relay.ready();
    const [row] = await database.query<{ text: string }>('select relay.position() as text');
    await database.query(
      `insert into relay.events (account_id, event) select $1, 'test.event' from generate_series(1, 300)`,
      [account],
    );
    const witness = client(relay, { token: await token(account) });
    await witness.live();
    await emit('read');
    await witness.hears(1);
    way.freeze();
    // A replay that waits for the database, and clients that wait for the replay.
    const c = client(relay, { token: await token(account), position: row!.text });
    await until('an attempt', () => attempts(c));
    await closesInTime(relay);
    way.cut();
  });
});
