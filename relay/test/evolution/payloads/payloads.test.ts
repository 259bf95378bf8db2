// Every kind of content, address and envelope that the facts page names, and the rows a REST answer becomes.

import { createStore } from '../../../evolution/ingest/store.ts';
import { readContent } from '../../../evolution/payloads/content.ts';
import { readAddress } from '../../../evolution/payloads/jid.ts';
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

describe('content', () => {
  test.each<[string, unknown, string, string]>([
    ['text', { conversation: 'oi' }, 'text', 'oi'],
    ['extended text', { extendedTextMessage: { text: 'oi' } }, 'text', 'oi'],
    ['image', { imageMessage: { caption: 'olha' } }, 'image', 'olha'],
    ['image without caption', { imageMessage: {} }, 'image', ''],
    ['round video', { ptvMessage: { seconds: 3 } }, 'video', ''],
    ['voice', { audioMessage: { ptt: true } }, 'audio', ''],
    ['document', { documentMessage: { fileName: 'a.pdf' } }, 'document', 'a.pdf'],
    [
      'document with caption',
      {
        documentWithCaptionMessage: { message: { documentMessage: { fileName: 'a.pdf', caption: 'laudo' } } },
      },
      'document',
      'laudo',
    ],
    ['sticker', { stickerMessage: {} }, 'sticker', ''],
    [
      'ephemeral in view once',
      { ephemeralMessage: { message: { viewOnceMessage: { message: { conversation: 'oi' } } } } },
      'text',
      'oi',
    ],
    ['from another device', { deviceSentMessage: { message: { conversation: 'oi' } } }, 'text', 'oi'],
    ['button', { buttonsResponseMessage: { selectedDisplayText: 'Sim' } }, 'text', 'Sim'],
    ['template button', { templateButtonReplyMessage: { selectedDisplayText: 'Sim' } }, 'text', 'Sim'],
    ['list', { listResponseMessage: { title: 'Opção 1' } }, 'text', 'Opção 1'],
    [
      'flow',
      {
        interactiveResponseMessage: {
          nativeFlowResponseMessage: { paramsJson: '{"id":"x","display_text":"Sim"}' },
        },
      },
      'text',
      'Sim',
    ],
    ['interactive', { interactiveMessage: { body: { text: 'Escolha' } } }, 'interactive', 'Escolha'],
    [
      'location',
      { locationMessage: { degreesLatitude: -23.5, degreesLongitude: -46.6, name: 'Clínica' } },
      'location',
      'Clínica · -23.5,-46.6',
    ],
    [
      'contacts',
      { contactsArrayMessage: { contacts: [{ displayName: 'Ana' }, { displayName: 'Bia' }] } },
      'contact',
      'Ana, Bia',
    ],
    [
      'poll',
      { pollCreationMessageV3: { name: 'Quando?', options: [{ optionName: 'Hoje' }] } },
      'poll',
      'Quando?\n- Hoje',
    ],
    [
      'text beside bookkeeping',
      { messageContextInfo: {}, senderKeyDistributionMessage: {}, conversation: 'oi' },
      'text',
      'oi',
    ],
    ['unknown', { fooMessage: { a: 1 } }, 'unknown', '[mensagem não suportada: fooMessage]'],
    ['list row', { listResponseMessage: { singleSelectReply: { selectedRowId: 'row-7' } } }, 'text', 'row-7'],
    [
      'template',
      { templateMessage: { interactiveMessageTemplate: { body: { text: 'Confirma?' } } } },
      'interactive',
      'Confirma?',
    ],
    ['poll, version 5', { pollCreationMessageV5: { name: 'Quando?', options: [] } }, 'poll', 'Quando?'],
    [
      'payment',
      { sendPaymentMessage: { noteMessage: { extendedTextMessage: { text: 'consulta' } } } },
      'payment',
      'consulta',
    ],
    [
      'request of a payment',
      { requestPaymentMessage: { noteMessage: { conversation: 'consulta' } } },
      'payment',
      'consulta',
    ],
    ['invoice', { invoiceMessage: { note: 'nota 12' } }, 'payment', 'nota 12'],
    ['picture of an album', { associatedChildMessage: { message: { imageMessage: {} } } }, 'image', ''],
    [
      'group mention',
      { groupMentionedMessage: { message: { extendedTextMessage: { text: 'todos' } } } },
      'text',
      'todos',
    ],
    [
      'poll in a wrapper',
      { pollCreationMessageV4: { message: { pollCreationMessageV3: { name: 'Onde?', options: [] } } } },
      'poll',
      'Onde?',
    ],
    ['question', { questionMessage: { message: { conversation: 'posso?' } } }, 'text', 'posso?'],
    ['sticker in a wrapper', { lottieStickerMessage: { message: { stickerMessage: {} } } }, 'sticker', ''],
    [
      'a wrapper nobody knows, in another',
      { fooMessage: { message: { barMessage: { message: { conversation: 'oi' } } } } },
      'text',
      'oi',
    ],
  ])('%s', (_, message, kind, content) => {
    expect(readContent(message)).toMatchObject({ is: 'message', kind, content });
  });

  test.each([
    ['a stub', null],
    ['an empty one', {}],
    ['only bookkeeping', { messageContextInfo: { deviceListMetadata: {} } }],
    ['an album, whose pictures follow', { albumMessage: { expectedImageCount: 2 } }],
    ['an encrypted edit', { secretEncryptedMessage: { targetMessageKey: { id: 'M1' } } }],
    ['a pin', { pinInChatMessage: { key: { id: 'M1' }, type: 1 } }],
    ['a keep', { keepInChatMessage: { key: { id: 'M1' } } }],
    ['an encrypted reaction', { encReactionMessage: { targetMessageKey: { id: 'M1' } } }],
    ['a placeholder', { placeholderMessage: { type: 0 } }],
    ['an encrypted vote', { pollUpdateMessage: { pollCreationMessageKey: { id: 'M1' } } }],
  ])('nothing a person reads: %s', (_, message) => {
    expect(readContent(message)).toEqual({ is: 'nothing' });
  });

  test('edits and revokes, by name, by number and by default', () => {
    const key = { id: 'M1' };
    const protocol = (fields: object) => readContent({ protocolMessage: { key, ...fields } });
    expect(
      protocol({
        type: 14,
        editedMessage: { conversation: 'b' },
        timestampMs: { low: 5, high: 1, unsigned: true },
      }),
    ).toMatchObject({
      is: 'protocol',
      protocol: { kind: 'edit', targetId: 'M1', content: 'b', at: 4294967301 },
    });
    expect(
      readContent({
        editedMessage: {
          message: { protocolMessage: { key, type: 'MESSAGE_EDIT', editedMessage: { conversation: 'b' } } },
        },
      }),
    ).toMatchObject({ is: 'protocol' });
    for (const type of [0, 'REVOKE', '0', undefined])
      expect(protocol({ type })).toMatchObject({ protocol: { kind: 'delete' } });
    expect(protocol({ type: 3 })).toEqual({ is: 'nothing' });
  });
});

describe('addresses', () => {
  test.each([
    ['5511999999999@s.whatsapp.net', 'phone', '5511999999999@s.whatsapp.net', '551199999999@s.whatsapp.net'],
    [
      '5511999999999:12@s.whatsapp.net',
      'phone',
      '5511999999999@s.whatsapp.net',
      '551199999999@s.whatsapp.net',
    ],
    ['551199999999@c.us', 'phone', '551199999999@s.whatsapp.net', '551199999999@s.whatsapp.net'],
    ['5511999999999', 'phone', '5511999999999@s.whatsapp.net', '551199999999@s.whatsapp.net'],
    ['5511933334444@s.whatsapp.net', 'phone', '5511933334444@s.whatsapp.net', '5511933334444@s.whatsapp.net'],
    ['5215512345678@s.whatsapp.net', 'phone', '5215512345678@s.whatsapp.net', '525512345678@s.whatsapp.net'],
    ['5491123456789@s.whatsapp.net', 'phone', '5491123456789@s.whatsapp.net', '541123456789@s.whatsapp.net'],
    ['13135550002@bot', 'bot', '13135550002@bot', '13135550002@bot'],
    ['123:4@lid', 'lid', '123@lid', '123@lid'],
    ['123@hosted.lid', 'lid', '123@hosted.lid', '123@hosted.lid'],
    ['1203-99@g.us', 'group', '1203-99@g.us', '1203-99@g.us'],
    ['status@broadcast', 'status', 'status@broadcast', 'status@broadcast'],
    ['99@broadcast', 'broadcast', '99@broadcast', '99@broadcast'],
    ['99@newsletter', 'newsletter', '99@newsletter', '99@newsletter'],
  ])('%s', (text, kind, jid, alias) => {
    expect(readAddress(text)).toEqual({ kind, jid, alias });
  });

  test('what is none', () => {
    for (const value of ['cmwqoeui4000w6u7dlze4pyy6', '', null, 42, 'a b@s.whatsapp.net', '5511@example.com'])
      expect(readAddress(value)).toBeNull();
  });

  test('pairs are learned from every field, never from our own number', () => {
    const own = readAddress('5511900000000@s.whatsapp.net');
    const pairs = (key: object, fields: object = {}) => [
      ...readEnvelope(
        {
          event: 'messages.upsert',
          instance: null,
          sender: null,
          data: { key: { id: 'M', fromMe: false, ...key }, message: { conversation: 'x' }, ...fields },
        },
        { ...context, own },
      ).facts.pairs,
    ];
    const known = [['1@lid', '551188887777@s.whatsapp.net']];
    expect(pairs({ remoteJid: '1@lid', remoteJidAlt: '5511988887777@s.whatsapp.net' })).toEqual(known);
    expect(pairs({ remoteJid: '1@lid', senderPn: '5511988887777@s.whatsapp.net' })).toEqual(known);
    expect(pairs({ remoteJid: '5511988887777@s.whatsapp.net', previousRemoteJid: '1@lid' })).toEqual(known);
    expect(
      pairs({ remoteJid: '1-2@g.us', participant: '1@lid', participantAlt: '5511988887777@s.whatsapp.net' }),
    ).toEqual(known);
    expect(pairs({ remoteJid: '1@lid', remoteJidAlt: '5511900000000@s.whatsapp.net' })).toEqual([]);
    expect(pairs({ remoteJid: '1@lid', fromMe: true, senderPn: '5511988887777@s.whatsapp.net' })).toEqual([]);
    expect([
      ...facts('chats.set', [{ remoteJid: '5511988887777@s.whatsapp.net', remoteLid: '1@lid' }]).pairs,
    ]).toEqual(known);
  });
});

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
