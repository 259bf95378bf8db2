// A client that asks for some events only is sent no others, and never more than its topics give it.
import { token, until } from '../world.ts';
import { account, client, emit, expectHeard, node, stream, tokenOf } from './chats.ts';

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
