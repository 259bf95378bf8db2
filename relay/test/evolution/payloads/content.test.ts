// Every kind of content that servers send, as a person reads it.
import { readContent } from '../../../evolution/payloads/content.ts';

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
