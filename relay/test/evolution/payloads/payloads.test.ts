// Every kind of envelope that servers of all versions send, and the rows a REST answer becomes.
import { createStore } from '../../../evolution/ingest/store.ts';
import {
  openEnvelope,
  readChatPage,
  readEnvelope,
  readMessagePage,
} from '../../../evolution/payloads/payloads.ts';
import { redact } from '../../../evolution/payloads/redact.ts';
import { addInstance, captured, read, restAnswer, startWorld, stateOf } from '../world.ts';

const context = { own: null, skip: new Set(['status', 'newsletter']) };
const toldOver = (readAt: number) => ({ as: 'rest', readAt, deletedIsRevoked: false }) as const;
const facts = (event: string, data: unknown) =>
  readEnvelope({ event, instance: null, sender: null, data }, context).facts;

describe('envelopes', () => {
  const message = {
    key: { id: 'M1', remoteJid: '5511999990000@s.whatsapp.net', fromMe: false },
    message: { conversation: 'oi' },
    messageTimestamp: '1795281655',
  };

  test.each<[string, unknown]>([
    ['one object', message],
    ['an array', [message]],
    ['wrapped as Baileys does', { messages: [message], type: 'notify' }],
    ['wrapped in an array', [{ messages: [message] }]],
  ])('messages.upsert as %s', (_, data) => {
    expect(facts('messages.upsert', data).messages).toMatchObject([
      { id: 'M1', content: 'oi', sentAt: 1795281655000, status: 'DELIVERED' },
    ]);
  });

  test("bare data without an envelope, and configuration's names", () => {
    expect(openEnvelope('MESSAGES_UPSERT', { messages: [message] })).toMatchObject({
      event: 'messages.upsert',
      instance: null,
    });
    expect(openEnvelope('messages.upsert', message)).toMatchObject({ instance: null, data: message });
  });

  test('status: numbers and words move it, DELETED and one beside an edit do not', () => {
    const status = (fields: object) => facts('messages.update', { keyId: 'M1', ...fields }).changes;
    expect(status({ status: 4 })).toEqual([{ id: 'M1', kind: 'status', status: 'READ' }]);
    expect(status({ status: 'DELIVERY_ACK', messageId: 'cuid' })).toEqual([
      { id: 'M1', kind: 'status', status: 'DELIVERED' },
    ]);
    expect(status({ status: 'DELETED' })).toEqual([]);
    expect(
      status({ status: 'SERVER_ACK', message: { editedMessage: { message: { conversation: 'b' } } } }),
    ).toEqual([{ id: 'M1', kind: 'edit', content: 'b', at: null, seen: false }]);
    expect(
      facts('messages.update', { id: 'M1', remoteJid: '5511999990000@s.whatsapp.net', status: 'READ' })
        .changes,
    ).toHaveLength(1);
    expect(facts('messages.update', [{ key: { id: 'M1' }, update: { status: 3 } }]).changes).toEqual([
      { id: 'M1', kind: 'status', status: 'DELIVERED' },
    ]);
  });

  test('an edit made through the API, and statuses of the Cloud API', () => {
    expect(
      facts('send.message.update', {
        key: { id: 'M1', fromMe: true, remoteJid: '5511999990000@s.whatsapp.net' },
        type: 'MESSAGE_EDIT',
        editedMessage: { conversation: 'b' },
        timestampMs: '1795281655000',
      }).changes,
    ).toEqual([{ id: 'M1', kind: 'edit', content: 'b', at: 1795281655000, seen: false }]);
    const status = (word: string) =>
      facts('messages.update', { keyId: 'wamid.HBgM', remoteJid: '5511999990000', status: word }).changes;
    for (const word of ['SENT', 'DELIVERED', 'READ', 'FAILED'])
      expect(status(word)).toEqual([{ id: 'wamid.HBgM', kind: 'status', status: word }]);
  });

  test('protocol messages between devices are no edits: ignored, and their keys are not kept', () => {
    const shared = {
      type: 'APP_STATE_SYNC_KEY_SHARE',
      appStateSyncKeyShare: { keys: [{ keyId: { keyId: 'AAAA' }, keyData: { keyData: 'U0VDUkVU' } }] },
    };
    for (const data of [
      shared,
      { key: { id: 'M1' }, ...shared },
      { type: 5 },
      { message: { protocolMessage: shared } },
    ]) {
      const reading = readEnvelope({ event: 'messages.edited', instance: null, sender: null, data }, context);
      expect(reading.rejections).toEqual([]);
      expect(reading.facts.changes).toEqual([]);
    }
    expect(
      JSON.stringify(redact({ protocolMessage: shared, keys: shared.appStateSyncKeyShare.keys })),
    ).not.toMatch(/U0VDUkVU/);
    // One that says it is an edit and names no message is kept for a look.
    const broken = readEnvelope(
      { event: 'messages.edited', instance: null, sender: null, data: { type: 'MESSAGE_EDIT' } },
      context,
    );
    expect(broken.rejections).toHaveLength(1);
  });

  test('an address is no name, and a contact without an address is nothing to learn', () => {
    for (const pushName of [
      '111111111111111',
      '5511966660001',
      '+55 11 96666-0001',
      '5511966660001@s.whatsapp.net',
    ])
      expect(facts('contacts.upsert', { remoteJid: '5511966660001@s.whatsapp.net', pushName }).names).toEqual(
        [],
      );
    expect(
      facts('contacts.upsert', { remoteJid: '5511966660001@s.whatsapp.net', pushName: 'Ana 2' }).names,
    ).toHaveLength(1);
    const reading = readEnvelope(
      { event: 'contacts.upsert', instance: null, sender: null, data: { pushName: 'Ana', instanceId: 'x' } },
      context,
    );
    expect(reading.rejections).toEqual([]);
  });

  test('2.2.3 says of a group only who wrote last, which is not its name', () => {
    const named = (chat: object) => readChatPage([chat], context, toldOver(0), null).facts.names;
    expect(named({ remoteJid: '1-2@g.us', pushName: 'Bia' })).toEqual([]);
    expect(named({ remoteJid: '5511999990000@s.whatsapp.net', pushName: 'Ana' })).toMatchObject([
      { name: 'Ana' },
    ]);
    const last = { key: { id: 'G1', remoteJid: '1-2@g.us' }, pushName: 'Bia' };
    expect(named({ remoteJid: '1-2@g.us', pushName: 'Família', lastMessage: last })).toMatchObject([
      { name: 'Família' },
    ]);
  });

  test('a record without a status has had its acknowledgement once it is minutes old', () => {
    const at = (seconds: number, fields: object = {}) =>
      readMessagePage(
        [{ ...message, key: { ...message.key, fromMe: true }, ...fields }],
        context,
        toldOver(1_795_281_655_000 + seconds * 1_000),
      ).facts.messages[0]?.status;
    expect(at(10)).toBe('PENDING');
    expect(at(600)).toBe('SENT');
    expect(at(10, { MessageUpdate: [{ status: 'DELIVERY_ACK' }] })).toBe('DELIVERED');
  });

  test('status broadcasts and newsletters are left out, group contacts do not name the group', () => {
    expect(
      facts('messages.upsert', { ...message, key: { id: 'X', remoteJid: 'status@broadcast' } }).messages,
    ).toEqual([]);
    expect(facts('contacts.update', { remoteJid: '1-2@g.us', pushName: 'Bia' }).names).toEqual([]);
    expect(facts('chats.upsert', [{ id: 'cmwqoeui4000w6u7dlze4pyy6', name: 'Ana Maria' }]).chats).toEqual([]);
  });

  test('binaries, keys and base64 bodies are not kept', () => {
    const kept = redact({
      apikey: 'K',
      url: 'https://x/y?z=1',
      jpegThumbnail: 'AAAA',
      a: Buffer.from('x'),
      b: { type: 'Buffer', data: [1] },
      c: { 0: 255, 1: 1 },
      d: 'QUJD'.repeat(100),
      e: 'data:image/png;base64,AAAA',
      f: { low: 1, high: 1, unsigned: true },
      text: 'QUJD'.repeat(100),
      list: [1, 2],
    });
    expect(kept).toEqual({ url: 'https://x/y?z=1', f: 4294967297, text: 'QUJD'.repeat(100), list: [1, 2] });
  });
});

test('REST answers of 2.3.7, before and after its events: the same chats, LID and number one', async () => {
  const world = await startWorld();
  try {
    const store = createStore(world.pool, {
      id: '00000000-0000-0000-0000-000000000001',
      host: 'test',
      pid: 1,
    });
    const arrival = toldOver(Date.now());
    const chats = readChatPage(restAnswer('findChats.json') as unknown[], context, arrival, null);
    const records = (restAnswer('findMessages.json') as { messages: { records: unknown[] } }).messages
      .records;
    const messages = readMessagePage(records, context, arrival);
    expect([...chats.rejections, ...messages.rejections]).toEqual([]);
    const rest = [
      { event: 'findChats', facts: chats.facts },
      { event: 'findMessages', facts: messages.facts },
    ];
    const seen: unknown[] = [];
    for (const order of [
      [...rest, ...read(captured('2.3.7'))],
      [...read(captured('2.3.7')), ...rest],
    ]) {
      const instance = await addInstance(world);
      for (const unit of order) await store.ingest(instance, [unit], true);
      const state = await stateOf(world, instance.tenantId);
      seen.push(
        state.map((c) => [
          c.whatsappChatId,
          c.contactName,
          c.unreadCount,
          c.messages.map((m) => (m as { id: string }).id).sort(),
        ]),
      );
      expect(state.find((c) => c.whatsappChatId === '5511999999999@s.whatsapp.net')?.messages).toContainEqual(
        expect.objectContaining({ id: 'M2', deleted: true }),
      );
    }
    expect(seen[0]).toEqual(seen[1]);
    expect(seen[0]).toEqual([
      ['120363000000000001@g.us', 'Grupo X', 1, ['G1']],
      ['5511999999999@s.whatsapp.net', 'Ana Maria', 5, ['M1', 'M2', 'M3', 'M4', 'M5', 'M6', 'M7', 'M9']],
      ['5521988887777@s.whatsapp.net', 'Bia', 0, ['L1']],
      ['5541966665555@s.whatsapp.net', 'Davi', 0, ['H1']],
    ]);
  } finally {
    await world.close();
  }
});
