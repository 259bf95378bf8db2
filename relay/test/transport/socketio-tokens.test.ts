// Tokens of connected Socket.IO clients: they end, are refreshed, and are revoked.

import { account, client, database, emit, inAnHour, node, range, sign, start } from '../one-database.ts';
import { type Client, metric, token, until } from '../world.ts';

describe('tokens over time', () => {
  test('a client whose token ends is sent away, and comes back with a fresh one, having missed nothing', async () => {
    const relay = await node({ JWT_CLOCK_TOLERANCE: '0' });
    let asked = 0;
    const c = client(relay, async (send: (auth: object) => void) => {
      asked += 1;
      send({ token: await token(account, { expiresIn: asked === 1 ? 5 : 3600 }) });
    });
    await c.live();
    let n = 0;
    while (c.connects.length < 2) {
      n += 1;
      await emit(n);
    }
    await emit(n + 1);
    expect(await c.hears(n + 1)).toEqual(range(1, n + 1));
    expect(c.connects.map(({ recovered }) => recovered)).toEqual([false, true]);
    expect(c.disconnects).toEqual(['transport close']);
    expect(c.refusals).toEqual([]);
  });

  test('a client with an object for auth is refused once its token ends, with token_expired', async () => {
    const relay = await node({ JWT_CLOCK_TOLERANCE: '0' });
    const c = client(relay, { token: await token(account, { expiresIn: 5 }) });
    await c.live();
    await until('a refusal', () => c.refusals.length);
    expect(c.refusals).toMatchObject([{ code: 'token_expired' }]);
    expect(c.socket.active).toBe(false);
  });

  test('auth:refresh keeps the connection, unless the new token is no good', async () => {
    const relay = await node({ JWT_CLOCK_TOLERANCE: '0' });
    const short = await token(account, { expiresIn: 6 });
    const [kept, lost] = [client(relay, { token: short }), client(relay, { token: short })];
    await Promise.all([kept.live(), lost.live()]);
    const ask = (c: Client, ...args: unknown[]) =>
      c.socket.timeout(5_000).emitWithAck('auth:refresh', ...args);
    expect(await ask(lost, await token('other'))).toEqual({ ok: false, code: 'token_of_another_account' });
    expect(await ask(lost, await sign({ accountId: account, exp: 1 }))).toEqual({
      ok: false,
      code: 'token_expired',
    });
    expect(await ask(lost, 'abc')).toEqual({ ok: false, code: 'token_malformed' });
    expect(await ask(lost, null)).toEqual({ ok: false, code: 'token_missing' });
    const fresh = await token(account);
    const answer = (await ask(kept, fresh)) as { ok: boolean; expiresAt: string };
    expect(answer.ok).toBe(true);
    expect(Date.parse(answer.expiresAt)).toBeGreaterThan(Date.now() + 3_000_000);
    await until('the other one is sent away', () => lost.disconnects.length);
    await emit(1);
    expect(await kept.hears(1)).toEqual([1]);
    expect(kept.connects).toHaveLength(1);
    expect(kept.disconnects).toEqual([]);
  });

  test('a token that lasts longer than timers can is not closed at once', async () => {
    const relay = await start();
    const c = client(relay, { token: await token(account, { expiresIn: 60 * 86_400 }) });
    await c.live();
    await emit(1);
    await c.hears(1);
    await emit(2);
    expect(await c.hears(2)).toEqual([1, 2]);
    expect(c.disconnects).toEqual([]);
  });

  test('revoked: by subject, by token id, by account; everywhere, at once, and for those who come later', async () => {
    const nodes = [await start(), await start()];
    const ana = await token(account, { subject: 'ana' });
    const bia = await token(account, { subject: 'bia' });
    const { jti } = JSON.parse(Buffer.from(bia.split('.')[1]!, 'base64url').toString()) as { jti: string };
    const old = await sign({ accountId: account, exp: inAnHour() });
    const make = (issued: string) => nodes.map((relay) => client(relay, { token: issued }));
    const [ofAna, ofBia, ofOld] = [make(ana), make(bia), make(old)];
    await Promise.all([...ofAna, ...ofBia, ...ofOld].map((c) => c.live()));
    const gone = (clients: Client[]) =>
      Promise.all(clients.map((c) => until('a refusal', () => c.refusals[0]?.code === 'token_revoked')));
    const later = "now() + interval '5 seconds'";

    await database.query(`select relay.revoke($1, subject => 'ana', before => ${later})`, [account]);
    await gone(ofAna);
    await database.query(`select relay.revoke($1, token_id => $2, before => ${later})`, [account, jti]);
    await gone(ofBia);
    await emit(1);
    for (const c of ofOld) expect(await c.hears(1)).toEqual([1]);
    // A token without iat counts as issued before any revocation.
    await database.query("select relay.revoke($1, before => '2000-01-01')", [account]);
    await gone(ofOld);
    for (const c of [...ofAna, ...ofBia, ...ofOld]) expect(c.socket.active).toBe(false);
    for (const issued of [ana, bia, old]) {
      const [c] = make(issued);
      await gone([c!]);
      expect(c!.heard).toEqual([]);
    }
    const [carla] = make(await token(account, { subject: 'carla' }));
    await carla!.live();
    // A relay that starts later knows it from the table.
    const third = await start();
    const c = client(third, { token: ana });
    await gone([c]);
    expect(await metric(third, 'refused', { code: 'token_revoked' })).toBe(1);
  });
});
