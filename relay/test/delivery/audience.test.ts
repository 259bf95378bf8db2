// Who hears what inside an account: an attendant's token gets nothing of another attendant's, on every road.
import { readSettings } from '../../config/settings.ts';
import { formatPosition, parsePosition } from '../../outbox/position.ts';
import { startRelay } from '../../server/relay.ts';
import { hearing } from '../hearing.ts';
import { metric, SECRET, token, until } from '../world.ts';
import {
  account,
  client,
  database,
  emit,
  emitTogether,
  ends,
  expectHeard,
  node,
  stream,
  tokenOf,
} from './chats.ts';

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
    // With every batch, three rounds would do: each has one at least.
    expect(n).toBeGreaterThan(30);
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
