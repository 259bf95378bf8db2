// Topics that change while a client is connected or away: it hears by the new ones, and refetches.
import { once } from 'node:events';
import { createServer, type ServerResponse } from 'node:http';
import { exportJWK, generateKeyPair, SignJWT } from 'jose';
import { unmarkPosition } from '../../delivery/hears.ts';
import { parsePosition } from '../../outbox/position.ts';
import { portOf } from '../../port.ts';
import { until } from '../world.ts';
import {
  account,
  client,
  database,
  emit,
  emitTogether,
  ends,
  expectHeard,
  inSession,
  node,
  stream,
  tokenOf,
} from './chats.ts';

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

  test('within a session count when the client comes back: the same topics resume, others refetch', async () => {
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

  test('by a row are honoured at once: live, over SSE, and at the next connection', async () => {
    const relay = await node();
    const bearer = await tokenOf('ana', ['chat:1', 'chat:2']);
    const ana = client(relay, { token: bearer });
    const bia = client(relay, { token: await tokenOf('bia', ['chat:2']) });
    await Promise.all([ana.live(), bia.live()]);
    const events = await stream(relay, bearer);
    await database.query(`select relay.revoke_topic($1, 'chat:2', 'ana')`, [account]);
    await until('relay:resync', () => ana.of('relay:resync').length);
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

  test('by a row apply to an event of the same transaction, which is not heard', async () => {
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
