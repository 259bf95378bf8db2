// Who hears what inside an account: an attendant's token gets nothing of another attendant's, on every road.
import { once } from 'node:events';
import { createServer, type IncomingMessage, request, type ServerResponse } from 'node:http';
import { exportJWK, generateKeyPair, SignJWT } from 'jose';
import type { SignOptions } from '../../auth/sign.ts';
import { readSettings } from '../../config/settings.ts';
import { unmarkPosition } from '../../delivery/hears.ts';
import { formatPosition, parsePosition } from '../../outbox/position.ts';
import { portOf } from '../../port.ts';
import { type Relay, startRelay } from '../../server/relay.ts';
import { hearing } from '../hearing.ts';
import { useNodes } from '../nodes.ts';
import { Stream } from '../transport/stream.ts';
import { type Client, type Database, freshDatabase, metric, SECRET, token, until } from '../world.ts';

let database: Database;
let account: string;
let tests = 0;
beforeAll(async () => {
  database = await freshDatabase();
  await database.query(
    "select relay.publish(event => 'chat.message'), relay.publish(event => 'chat.closed')",
  );
});
beforeEach(() => {
  tests += 1;
  account = `acc-${tests}`;
});
afterAll(() => database.close());
const { node, client, ends } = useNodes(() => database);

const tokenOf = (subject: string, topics: readonly string[] = [], more: Partial<SignOptions> = {}) =>
  token(account, { subject, topics, ...more });

/** As relay.publish() records it; null: everybody. */
async function emit(audience: readonly string[] | null, payload: unknown, event = 'chat.message') {
  await database.query(
    'insert into relay.events (account_id, event, payload, audience) values ($1, $2, $3, $4)',
    [account, event, JSON.stringify(payload), audience],
  );
}

/** Several in one transaction, and so in one batch. */
async function emitTogether(
  events: readonly (readonly [audience: readonly string[] | null, payload: unknown])[],
) {
  await database.query(
    `insert into relay.events (account_id, event, payload, audience)
     select $1, 'chat.message', e->1, case when e->0 <> 'null' then array(select jsonb_array_elements_text(e->0)) end
       from jsonb_array_elements($2::jsonb) as e`,
    [account, JSON.stringify(events)],
  );
}

async function stream(
  relay: Pick<Relay, 'port'>,
  bearer: string,
  { query = '', position = '' }: { query?: string; position?: string } = {},
): Promise<Stream> {
  const asked = request({
    ...{ host: '127.0.0.1', port: relay.port, path: `/events${query}` },
    headers: { authorization: `Bearer ${bearer}`, ...(position && { 'last-event-id': position }) },
  });
  asked.end();
  const [response] = (await once(asked, 'response')) as [IncomingMessage];
  const made = new Stream(response);
  ends.push(() => made.close());
  await until('the stream is told where it is', () =>
    made.heard.some(({ event }) => event === 'relay:ready' || event === 'relay:resync'),
  );
  return made;
}

const inSession = ({ socket }: Client, given: string) =>
  socket.emitWithAck('auth:refresh', given) as Promise<unknown>;

/** Hears nothing but what is for everybody and for it. */
async function expectHeard(who: Pick<Client, 'payloads'>, expected: readonly unknown[]): Promise<void> {
  const last = JSON.stringify(expected.at(-1));
  await until(`hears ${last}, heard ${JSON.stringify(who.payloads)}`, () =>
    who.payloads.some((payload) => JSON.stringify(payload) === last),
  );
  expect(who.payloads).toEqual(expected);
}

describe('an attendant hears nothing of another one', () => {
  test('live: the topics of the token, its own topic, and what is for everybody', async () => {
    const relay = await node();
    const ana = client(relay, { token: await tokenOf('ana', ['chat:1', 'chat:2']) });
    const bia = client(relay, { token: await tokenOf('bia', ['chat:3']) });
    const nobody = client(relay, { token: await token(account) });
    await Promise.all([ana.live(), bia.live(), nobody.live()]);
    await emit(['chat:1'], 1);
    await emit(['user:bia'], 2);
    await emit(['chat:2', 'chat:3'], 3);
    await emit(['chat:4'], 4);
    await emit([], 5);
    await emit(null, 'end');
    await expectHeard(ana, [1, 3, 'end']);
    await expectHeard(bia, [2, 3, 'end']);
    await expectHeard(nobody, ['end']);
  });

  test('in a batch for many: each its own, once, and at its end the position of the whole batch', async () => {
    const relay = await node();
    const ana = client(relay, { token: await tokenOf('ana', ['chat:1']) });
    const bia = client(relay, { token: await tokenOf('bia', ['chat:2']) });
    const both = client(relay, { token: await tokenOf('both', ['chat:1', 'chat:2']) });
    await Promise.all([ana.live(), bia.live(), both.live()]);
    await emitTogether([
      ...[...Array(40).keys()].map((n) => [[`chat:${(n % 3) + 1}`], n] as const),
      [['user:ana', 'chat:1'], 'for ana'],
      [['chat:2'], 'for bia'],
    ]);
    const numbers = [...Array(40).keys()];
    await expectHeard(ana, [...numbers.filter((n) => n % 3 === 0), 'for ana']);
    await expectHeard(bia, [...numbers.filter((n) => n % 3 === 1), 'for bia']);
    await expectHeard(both, [...numbers.filter((n) => n % 3 !== 2), 'for ana', 'for bia']);
    for (const { heard } of [ana, bia, both]) {
      expect(parsePosition(String(heard.at(-1)!.position))).not.toHaveProperty('batch');
      expect(parsePosition(String(heard.at(-2)!.position))).toHaveProperty('batch');
    }
    expect(new Set([ana, bia, both].map(({ offset }) => offset)).size).toBe(1);
  });

  test.each([
    ['memory', {}, 0],
    ['the table', { WINDOW_EVENTS: '100' }, 1],
  ])('in a replay from %s', async (_, env, queries) => {
    const relay = await node(env);
    const ana = client(relay, { token: await tokenOf('ana', ['chat:1']) });
    await ana.live();
    await emit(['chat:1'], 'before');
    await ana.hears(1);
    const position = ana.offset;
    ana.close();
    for (let n = 1; n <= 120; n += 20) {
      await emitTogether([...Array(20).keys()].map((i) => [[`chat:${(i % 2) + 1}`], n + i] as const));
    }
    await emit(['user:ana'], 'own');
    await emit(['chat:2'], 'hidden');
    await relay.ready();
    // Live again once the feed has read all of it.
    const watcher = client(relay, { token: await tokenOf('watcher', ['chat:2']), position });
    await until('all is read', () => watcher.payloads.includes('hidden'));
    const again = client(relay, { token: await tokenOf('ana', ['chat:1']), position });
    await emit(null, 'end');
    const odd = [...Array(120).keys()].map((n) => n + 1).filter((n) => n % 2 === 1);
    await expectHeard(again, [...odd, 'own', 'end']);
    expect((await metric(relay, 'replayQueries')) > 0).toBe(queries > 0);
  });

  test('as a stock client that was cut off', async () => {
    const relay = await node();
    const ana = client(relay, { token: await tokenOf('ana', ['chat:1']) });
    await ana.live();
    ana.cut();
    await until('it knows', () => ana.disconnects.length);
    await emitTogether([
      [['chat:2'], 'hidden'],
      [['chat:1'], 'shown'],
      [['chat:2'], 'hidden'],
    ]);
    await ana.live(2);
    expect(ana.connects[1]).toMatchObject({ recovered: true });
    await emit(null, 'end');
    await expectHeard(ana, ['shown', 'end']);
  });

  test('over SSE: live, and with the position of somebody who heard more', async () => {
    const relay = await node();
    const bearer = await tokenOf('ana', ['chat:1']);
    const all = client(relay, { token: await tokenOf('all', ['chat:1', 'chat:2']) });
    await all.live();
    const start = all.offset!;
    const first = await stream(relay, bearer);
    await emit(['chat:2'], 'hidden');
    await emit(['chat:1'], 1);
    await emit(null, 2);
    await expectHeard(first, [1, 2]);
    const second = await stream(relay, bearer, { position: start });
    expect(second.payloads).toEqual([1, 2]);
  });

  test('with a forged position', async () => {
    const relay = await node();
    const all = client(relay, { token: await tokenOf('all', ['chat:2']) });
    await all.live();
    const start = parsePosition(all.offset!)!;
    await emit(['chat:2'], 'hidden');
    await all.hears(1);
    const after = parsePosition(all.offset!)!;
    for (const position of [
      formatPosition(start),
      formatPosition({ ...start, batch: { bound: after.seen, through: 1n } }),
    ]) {
      const ana = client(relay, { token: await tokenOf('ana', ['chat:1']), position });
      await until('it is live', () => ana.of('relay:ready').length);
      expect(ana.payloads).toEqual([]);
    }
  });

  test('nor does a log, a metric or an answer name a topic', async () => {
    const said: string[] = [];
    const settings = readSettings({
      ...{ DATABASE_URL: database.url, JWT_SECRET: SECRET, JWT_TOPICS_CLAIM: 'topics' },
      ...{ HOST: '127.0.0.1', PORT: '0', SAFETY_READ_MS: '200', LOG_LEVEL: 'trace' },
    });
    const log = hearing((name, fields) => said.push(`${name} ${fields}`));
    const relay = await startRelay({ databaseUrl: database.url, jwt: settings.jwt, settings, log });
    ends.push(() => relay.close());
    await relay.ready();
    const ana = client(relay, { token: await tokenOf('ana', ['chat:1']) });
    const ill = client(relay, { token: await tokenOf('bia', [['chat:2']] as never) });
    await ana.live();
    await until('a refusal', () => ill.refusals.length);
    await emit(['chat:1', 'chat:2'], 1);
    await ana.hears(1);
    await database.query(`select relay.revoke_topic($1, 'chat:1')`, [account]);
    await until('relay:resync', () => ana.of('relay:resync').length);
    const answers = [...ill.refusals.map(({ message }) => message), ...ana.of('relay:resync')];
    const metrics = await relay.metrics.registry.metrics();
    expect(said.length).toBeGreaterThan(0);
    expect(`${said.join()}${metrics}${JSON.stringify(answers)}`).not.toMatch(/chat:|user:/);
  });
});

describe('topics that change', () => {
  test('with auth:refresh take effect at once: relay:resync, and nothing more of the topic that is gone', async () => {
    const relay = await node();
    const ana = client(relay, { token: await tokenOf('ana', ['chat:1', 'chat:2']) });
    await ana.live();
    await emit(['chat:2'], 1);
    await ana.hears(1);
    expect(await inSession(ana, await tokenOf('ana', ['chat:1', 'chat:3']))).toMatchObject({ ok: true });
    expect(ana.of('relay:resync')).toEqual([expect.objectContaining({ reason: 'topics' })]);
    await emit(['chat:2'], 'hidden');
    await emit(['chat:3'], 3);
    await emit(['chat:1'], 4);
    await expectHeard(ana, [1, 3, 4]);
  });

  test('within a session are those that it is compared with when it comes back', async () => {
    const relay = await node();
    const [before, after] = [await tokenOf('ana', ['chat:1']), await tokenOf('ana', ['chat:2'])];
    let bearer = before;
    const ana = client(relay, (send: (auth: object) => void) => send({ token: bearer }));
    await ana.live();
    bearer = after;
    await inSession(ana, after);
    await emit(['chat:2'], 1);
    await ana.hears(1);
    ana.cut();
    await emit(['chat:2'], 2);
    await expectHeard(ana, [1, 2]);
    await ana.live(2);
    expect(ana.connects[1]).toMatchObject({ recovered: true });
    // Also after what brings no event, and on a further connection.
    ana.cut();
    await ana.live(3);
    expect(ana.connects[2]).toMatchObject({ recovered: true });
    expect(ana.of('relay:resync')).toHaveLength(1);
    // With the topics that its session began with: what it did not hear meanwhile is not passed over in silence.
    bearer = before;
    ana.cut();
    await until('relay:resync', () => ana.of('relay:resync').length === 2);
    expect(ana.connects.at(-1)).toMatchObject({ recovered: false });
    await emit(['chat:1'], 3);
    await expectHeard(ana, [1, 2, 3]);
  });

  test('that stay the same change nothing', async () => {
    const relay = await node();
    const ana = client(relay, { token: await tokenOf('ana', ['chat:1', 'chat:2']) });
    await ana.live();
    await inSession(ana, await tokenOf('ana', ['chat:2', 'chat:1']));
    await emit(['chat:2'], 1);
    await expectHeard(ana, [1]);
    expect(ana.of('relay:resync')).toEqual([]);
  });

  test('bring no past events of a topic that was added', async () => {
    const relay = await node();
    let bearer = await tokenOf('ana');
    const ana = client(relay, (send: (auth: object) => void) => send({ token: bearer }));
    await ana.live();
    await emit(['chat:1'], 'past');
    await emit(null, 1);
    await ana.hears(1);
    bearer = await tokenOf('ana', ['chat:1']);
    await inSession(ana, bearer);
    const resync = ana.heard.find(({ event }) => event === 'relay:resync')!;
    expect(parsePosition(unmarkPosition(String(resync.position)).position)).not.toHaveProperty('batch');
    ana.cut();
    await ana.live(2);
    await emit(['chat:1'], 2);
    await expectHeard(ana, [1, 2]);
  });

  test('several times are those of the refresh that came last, though an earlier token takes longer to verify', async () => {
    const keys = await Promise.all(
      ['old', 'new'].map(async (kid) => ({ kid, ...(await generateKeyPair('RS256')) })),
    );
    const [known, unknown] = keys as [(typeof keys)[number], (typeof keys)[number]];
    const published: (typeof known)[] = [known];
    const asked: (() => void)[] = [];
    const answer = async (response: ServerResponse) => {
      const set = published.map(async ({ kid, publicKey }) => ({
        ...(await exportJWK(publicKey)),
        kid,
        alg: 'RS256',
      }));
      response.end(JSON.stringify({ keys: await Promise.all(set) }));
    };
    const issuer = createServer((_, response) => {
      // The second reading of the set waits until it is told.
      if (published.length === 1) void answer(response);
      else asked.push(() => void answer(response));
    });
    await once(issuer.listen(0, '127.0.0.1'), 'listening');
    ends.push(() => issuer.close());
    const sign = ({ kid, privateKey }: typeof known, topics: string[]) =>
      new SignJWT({ accountId: account, sub: 'ana', topics })
        .setProtectedHeader({ alg: 'RS256', kid })
        .setExpirationTime('1h')
        .sign(privateKey);
    const relay = await node({ JWT_JWKS_URL: `http://127.0.0.1:${portOf(issuer)}/` });
    const ana = client(relay, { token: await sign(known, []) });
    await ana.live();
    published.push(unknown);
    const first = inSession(ana, await sign(unknown, ['chat:1']));
    await until('the key set is asked for', () => asked.length);
    const second = inSession(ana, await sign(known, ['chat:2']));
    asked[0]!();
    expect(await Promise.all([first, second])).toMatchObject([{ ok: true }, { ok: true }]);
    await emit(['chat:1'], 'hidden');
    await emit(['chat:2'], 2);
    await expectHeard(ana, [2]);
  });

  test('while a client is away make its session a new one', async () => {
    const relay = await node();
    let topics = ['chat:1'];
    const ana = client(relay, (send: (auth: object) => void) => {
      void tokenOf('ana', topics).then((given) => send({ token: given }));
    });
    await ana.live();
    topics = ['chat:2'];
    ana.cut();
    await emitTogether([
      [['chat:1'], 'hidden'],
      [['chat:2'], 'past'],
    ]);
    await ana.live(2);
    await until('relay:resync', () => ana.of('relay:resync').length);
    expect(ana.of('relay:resync')).toEqual([expect.objectContaining({ reason: 'topics' })]);
    expect(ana.connects[1]).toMatchObject({ recovered: false });
    expect(ana.connects[1]!.pid).not.toBe(ana.connects[0]!.pid);
    await emit(['chat:2'], 1);
    await expectHeard(ana, [1]);
    ana.cut();
    await ana.live(3);
    expect(ana.connects[2]).toMatchObject({ recovered: true });
  });

  test('are told by relay:ready where there is no session', async () => {
    const relay = await node();
    const hearingOf = async (topics: readonly string[], query = '') => {
      const { heard } = await stream(relay, await tokenOf('ana', topics), { query });
      return (heard[0]!.payload as { hearing: string }).hearing;
    };
    const first = await hearingOf(['chat:1']);
    expect(first).toMatch(/^[\w-]{12}$/);
    expect(await hearingOf(['chat:1'])).toBe(first);
    expect(await hearingOf(['chat:2'])).not.toBe(first);
    expect(await hearingOf(['chat:1'], '?events=chat.*')).not.toBe(first);
  });

  test('by a row are honoured within a second: live, over SSE, and at the next connection', async () => {
    const relay = await node();
    const bearer = await tokenOf('ana', ['chat:1', 'chat:2']);
    const ana = client(relay, { token: bearer });
    const bia = client(relay, { token: await tokenOf('bia', ['chat:2']) });
    await Promise.all([ana.live(), bia.live()]);
    const events = await stream(relay, bearer);
    const began = performance.now();
    await database.query(`select relay.revoke_topic($1, 'chat:2', 'ana')`, [account]);
    await until('relay:resync', () => ana.of('relay:resync').length);
    expect(performance.now() - began).toBeLessThan(1_000);
    expect(ana.of('relay:resync')).toEqual([expect.objectContaining({ reason: 'topics' })]);
    await emit(['chat:2'], 'hidden');
    await emit(['chat:1'], 1);
    await expectHeard(ana, [1]);
    await expectHeard(events, [1]);
    await expectHeard(bia, ['hidden']);
    ana.cut();
    await ana.live(2);
    await emit(['chat:2'], 'hidden');
    await emit(null, 'end');
    await expectHeard(ana, [1, 'end']);
    expect(await inSession(ana, bearer)).toMatchObject({ ok: true });
    await emit(['chat:2'], 'hidden');
    await emit(null, 'end of all');
    await expectHeard(ana, [1, 'end', 'end of all']);
  });

  test('by a row in the same transaction as what is no longer heard', async () => {
    const relay = await node();
    const ana = client(relay, { token: await tokenOf('ana', ['chat:2']) });
    await ana.live();
    const writer = await database.connect();
    await writer.query('begin');
    await writer.query(`select relay.revoke_topic($1, 'chat:2', 'ana')`, [account]);
    await writer.query(
      `insert into relay.events (account_id, event, payload, audience) values ($1, 'chat.message', '1', '{chat:2}')`,
      [account],
    );
    await writer.query('commit');
    await emit(null, 'end');
    await expectHeard(ana, ['end']);
  });
});

describe('relay:resync of a failed capture', () => {
  const fail = (audience: readonly string[] | null) =>
    emit(audience, { reason: 'capture_failed', event: 'chat.message', error: 'secret' }, 'relay:resync');

  test('goes to its audience', async () => {
    const relay = await node();
    const ana = client(relay, { token: await tokenOf('ana', ['chat:1']) });
    const bia = client(relay, { token: await tokenOf('bia', ['chat:2']), events: [] });
    await Promise.all([ana.live(), bia.live()]);
    await fail(['chat:2']);
    await emit(null, 'end');
    await expectHeard(ana, ['end']);
    await until('relay:resync', () => bia.of('relay:resync').length);
    expect(ana.of('relay:resync')).toEqual([]);
  });

  test('for two audiences in one batch reaches both', async () => {
    const relay = await node();
    const ana = client(relay, { token: await tokenOf('ana', ['chat:1']) });
    const bia = client(relay, { token: await tokenOf('bia', ['chat:2']) });
    await Promise.all([ana.live(), bia.live()]);
    const writer = await database.connect();
    await writer.query('begin');
    for (const topic of ['chat:1', 'chat:2']) {
      await writer.query(
        `insert into relay.events (account_id, event, payload, audience) values ($1, 'relay:resync', '{"reason":"capture_failed"}', $2)`,
        [account, [topic]],
      );
    }
    await writer.query('commit');
    for (const who of [ana, bia]) await until('relay:resync', () => who.of('relay:resync').length);
  });
});

describe('a client that hears nothing of what is written', () => {
  test('gets no frame, but a fresh position before its own is out of reach', async () => {
    const relay = await node({ WINDOW_EVENTS: '100' });
    const busy = client(relay, { token: await tokenOf('busy', ['chat:1']) });
    const quiet = client(relay, { token: await tokenOf('quiet') });
    await Promise.all([busy.live(), quiet.live()]);
    let n = 0;
    while (quiet.of('relay:position').length < 3) {
      for (const last = n + 10; n < last; n += 1) await emit(['chat:1'], n);
      await busy.hears(n);
    }
    expect(n).toBeGreaterThanOrEqual(100);
    expect(n).toBeLessThan(1_000);
    expect(quiet.heard.map(({ event }) => event)).toEqual([
      ...['relay:ready', 'relay:position', 'relay:position', 'relay:position'],
    ]);
    quiet.cut();
    await until('it knows', () => quiet.disconnects.length);
    await emit(['user:quiet'], 'for it');
    expect(await quiet.hears(1)).toEqual(['for it']);
    expect(quiet.connects[1]).toMatchObject({ recovered: true });
    expect(await metric(relay, 'replayQueries')).toBe(0);
  });
});

describe('a choice of events', () => {
  test('narrows what a connection is sent, with the same resume', async () => {
    const relay = await node();
    const all = client(relay, { token: await token(account) });
    const some = client(relay, { token: await token(account), events: ['chat.c*'] });
    const none = client(relay, { token: await token(account), events: [] });
    await Promise.all([all.live(), some.live(), none.live()]);
    await emit(null, 1);
    await emit(null, 2, 'chat.closed');
    await expectHeard(all, [1, 2]);
    await expectHeard(some, [2]);
    some.cut();
    await until('it knows', () => some.disconnects.length);
    await emit(null, 3);
    await emit(null, 4, 'chat.closed');
    await expectHeard(some, [2, 4]);
    expect(some.connects[1]).toMatchObject({ recovered: true });
    expect(none.payloads).toEqual([]);
  });

  test('gives no event of a foreign topic', async () => {
    const relay = await node();
    const ana = client(relay, { token: await tokenOf('ana'), events: ['chat.message', '*'] });
    await ana.live();
    await emit(['chat:1'], 'hidden');
    await emit(null, 'end');
    await expectHeard(ana, ['end']);
  });

  test('over SSE stands in the query', async () => {
    const relay = await node();
    const events = await stream(relay, await token(account), { query: '?events=chat.closed,doctors.*' });
    await emit(null, 1);
    await emit(null, 2, 'chat.closed');
    await expectHeard(events, [2]);
  });

  test('that has changed while a client was away makes its session a new one', async () => {
    const relay = await node();
    const bearer = await token(account);
    let events = ['chat.closed'];
    const some = client(relay, (send: (auth: object) => void) => send({ token: bearer, events }));
    await some.live();
    events = ['chat.*'];
    some.cut();
    await some.live(2);
    await until('relay:resync', () => some.of('relay:resync').length);
    expect(some.connects[1]).toMatchObject({ recovered: false });
  });

  test.each([
    ['a text', 'chat.*'],
    ['an object', { chat: true }],
    ['a number among names', ['chat.*', 1]],
    ['an empty name', ['']],
    ['a * in the middle', ['chat.*.closed']],
    ['too long a name', ['x'.repeat(257)]],
    ['too many names', [...Array(101).keys()].map(String)],
  ])('that is %s is refused', async (_, events) => {
    const relay = await node();
    const refused = client(relay, { token: await token(account), events });
    await until('a refusal', () => refused.refusals.length);
    expect(refused.refusals[0]).toMatchObject({
      code: 'events_invalid',
      message: expect.stringMatching(/^The choice of events is .* expected\.$/),
    });
    expect(refused.socket.active).toBe(false);
  });
});
