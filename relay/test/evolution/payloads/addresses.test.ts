// Every kind of address, and the pairs of a number and a LID.
import { readAddress } from '../../../evolution/payloads/jid.ts';
import { readEnvelope } from '../../../evolution/payloads/payloads.ts';

const context = { own: null, skip: new Set(['status', 'newsletter']) };
const facts = (event: string, data: unknown) =>
  readEnvelope({ event, instance: null, sender: null, data }, context).facts;

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
