// Captured envelopes of three real versions: in order, shuffled, twice; one by one and in bulk.

import type { Instance } from '../../../evolution/ingest/instance.ts';
import { createStore } from '../../../evolution/ingest/store.ts';
import {
  addInstance,
  type Captured,
  captured,
  eventsOf,
  read,
  shuffled,
  startWorld,
  stateOf,
  type World,
} from '../world.ts';

let world: World;
beforeAll(async () => {
  world = await startWorld();
});
afterAll(() => world.close());

const me = { id: '00000000-0000-0000-0000-000000000001', host: 'test', pid: 1 };

async function tell(instance: Instance, envelopes: readonly Captured[], atOnce: number): Promise<void> {
  const store = createStore(world.pool, me);
  const units = read(envelopes);
  for (let i = 0; i < units.length; i += atOnce) await store.ingest(instance, units.slice(i, i + atOnce));
}

describe.each(['2.3.0', '2.3.4', '2.3.7'])('captured envelopes of %s', (version) => {
  const envelopes = captured(version);
  let expected: unknown;
  let inOrder: Instance;

  test('in order, one by one: the right chats', async () => {
    inOrder = await addInstance(world);
    await tell(inOrder, envelopes, 1);
    const chats = await stateOf(world, inOrder.tenantId);
    expected = chats;
    expect(
      chats.map((c) => [c.whatsappChatId, c.contactName, c.contactNumber, c.unreadCount, c.messages.length]),
    ).toEqual([
      ['120363000000000001@g.us', 'Grupo X', '120363000000000001@g.us', 1, 1],
      ['5511999999999@s.whatsapp.net', 'Ana Maria', '5511999999999', 5, 8],
      ['5521988887777@s.whatsapp.net', 'Bia', '5521988887777', 0, 1],
      ['5541966665555@s.whatsapp.net', 'Davi', '5541966665555', 0, 1],
    ]);
    expect(chats[1]!.messages).toMatchObject([
      {
        id: 'M1',
        content: 'oi (editado)',
        status: 'DELIVERED',
        direction: 'INCOMING',
        deleted: false,
        reactions: [['551199999999@s.whatsapp.net', '👍', expect.anything()]],
      },
      { id: 'M2', content: '', kind: 'deleted', deleted: true },
      { id: 'M3', content: 'do celular', status: 'READ', direction: 'OUTGOING' },
      {
        id: 'M4',
        content: 'olha',
        kind: 'image',
        media: { mimetype: 'image/jpeg', bytes: 52345, width: 80, height: 100 },
      },
      { id: 'M5', content: 'doc', kind: 'document', media: { fileName: 'a.pdf', bytes: 99 } },
      { id: 'M6', content: 'some', kind: 'text' },
      { id: 'M7', content: 'uma vez', kind: 'image', media: { viewOnce: true } },
      { id: 'M9', content: 'mudei' },
    ]);
  });

  test('each chat:new and chat:message once, edits, deletions and reactions as events', async () => {
    const events = await eventsOf(world, inOrder.tenantId);
    const of = (name: string) => events.filter((e) => e.event === name).map((e) => e.payload);
    expect(of('relay:resync')).toEqual([]);
    expect(of('chat:new')).toHaveLength(4);
    const heard = of('chat:message').map(
      (p) => (p.message as { whatsappMessageId: string }).whatsappMessageId,
    );
    expect([...heard].sort()).toEqual(['G1', 'H1', 'L1', 'M1', 'M2', 'M3', 'M4', 'M5', 'M6', 'M7', 'M9']);
    expect(of('message:deleted').map((p) => p.whatsappMessageId)).toEqual(['M2']);
    expect(of('message:edited')).toMatchObject([{ whatsappMessageId: 'M1', content: 'oi (editado)' }]);
    expect(of('message:reaction')).toMatchObject([
      { whatsappMessageId: 'M1', reaction: '👍', fromMe: false },
    ]);
    expect(of('message:status').map((p) => [p.whatsappMessageId, p.status])).toEqual([
      ['M3', 'DELIVERED'],
      ['M3', 'READ'],
      ['L1', 'READ'],
    ]);
  });

  test('all in one statement: the same rows', async () => {
    const instance = await addInstance(world);
    await tell(instance, envelopes, 1000);
    expect(await stateOf(world, instance.tenantId)).toEqual(expected);
  });

  test('each twice, and all again: the same rows and no further event', async () => {
    const instance = await addInstance(world);
    await tell(
      instance,
      envelopes.flatMap((e) => [e, e]),
      7,
    );
    expect(await stateOf(world, instance.tenantId)).toEqual(expected);
    const before = await eventsOf(world, instance.tenantId);
    await tell(instance, envelopes, 3);
    expect(await stateOf(world, instance.tenantId)).toEqual(expected);
    const heard = (await eventsOf(world, instance.tenantId)).slice(before.length).map((e) => e.event);
    expect(heard).toEqual([]);
  });

  test.each([1, 2, 3, 4])('shuffled (%d) and twice: the same rows', async (seed) => {
    const instance = await addInstance(world);
    await tell(instance, shuffled([...envelopes, ...envelopes], seed * 7919), seed % 2 === 0 ? 1 : 9);
    expect(await stateOf(world, instance.tenantId)).toEqual(expected);
    const messages = (await eventsOf(world, instance.tenantId)).filter((e) => e.event === 'chat:message');
    expect(messages).toHaveLength(11);
  });
});
