// Tickets for an EventSource, which sends no header.
import { token, until } from '../world.ts';
import { Stream } from './stream.ts';
import { add, ask, database, open, refused, relay, streams } from './streams.ts';

describe('a ticket, for an EventSource that sends no header', () => {
  async function buy(bearer?: string): Promise<{ status: number; ticket: string; code: string | undefined }> {
    const response = await fetch(`http://127.0.0.1:${relay.port}/events/ticket`, {
      method: 'POST',
      headers: bearer === undefined ? {} : { authorization: `Bearer ${bearer}` },
    });
    expect(response.headers.get('cache-control')).toBe('no-store');
    const body = (await response.json()) as { ticket?: string; error?: { code: string } };
    return { status: response.status, ticket: body.ticket ?? '', code: body.error?.code };
  }

  /** No header. */
  const use = (query: string) => ask({ query });

  test('stands for the token, once', async () => {
    const { status, ticket } = await buy(await token('acc-1', { topics: ['a'] }));
    expect(status).toBe(201);
    expect(ticket).toMatch(/^[\w-]{32}$/);
    const response = await use(`?ticket=${ticket}`);
    expect(response.statusCode).toBe(200);
    const stream = new Stream(response);
    streams.push(stream);
    await until('it is live', () => stream.heard.length);
    await add('by ticket');
    await stream.hears(1);
    expect(await refused({ query: `?ticket=${ticket}` })).toMatchObject({
      status: 401,
      code: 'ticket_unknown',
    });
  });

  test('goes on from a position that the query brings', async () => {
    const bearer = await token();
    const first = await open();
    await add(1);
    await first.hears(1);
    await add(2);
    await first.hears(2);
    const from = first.heard.find(({ event }) => event === 'note.added')!.id;
    const { ticket } = await buy(bearer);
    const stream = new Stream(await use(`?ticket=${ticket}&lastEventId=${encodeURIComponent(from)}`));
    streams.push(stream);
    await stream.hears(1);
    expect(stream.payloads).toEqual([2]);
  });

  test('is given for a good token only, and refused where it was never given', async () => {
    expect(await buy()).toMatchObject({ status: 401, code: 'token_missing' });
    expect(await buy('abc')).toMatchObject({ status: 401, code: 'token_malformed' });
    for (const query of ['?ticket=', '?ticket=abc', `?ticket=${'a'.repeat(4_000)}`]) {
      expect(await refused({ query })).toMatchObject({ status: 401, code: 'ticket_unknown' });
    }
  });

  test('does not outlive its token', async () => {
    const bearer = await token('acc-revoked');
    let { ticket } = await buy(bearer);
    await database.query(`select relay.revoke('acc-revoked', before => now() + interval '1 minute')`);
    await until('it is refused', async () => {
      const bought = await buy(bearer);
      // The last one: it lives for ten seconds, whether or not the revocation is known by then.
      if (bought.status === 201) ticket = bought.ticket;
      return bought.code === 'token_revoked';
    });
    expect(await refused({ query: `?ticket=${ticket}` })).toMatchObject({
      status: 401,
      code: 'token_revoked',
    });
  });

  test('is asked for by POST', async () => {
    const response = await fetch(`http://127.0.0.1:${relay.port}/events/ticket`);
    expect([response.status, response.headers.get('allow')]).toEqual([405, 'POST']);
  });
});
