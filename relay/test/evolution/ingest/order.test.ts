// Property: however the events of conversations are ordered, repeated and bundled, the rows end the same, and every
// message is announced once.
import fc from 'fast-check';
import type { Instance } from '../../../evolution/ingest/instance.ts';
import { createStore } from '../../../evolution/ingest/store.ts';
import { addInstance, type Captured, eventsOf, read, startWorld, stateOf, type World } from '../world.ts';

let world: World;
beforeAll(async () => {
  world = await startWorld();
});
afterAll(() => world.close());

const me = { id: '00000000-0000-0000-0000-000000000001', host: 'test', pid: 1 };
const OWN = '5511900000000@s.whatsapp.net';
const T0 = 1_790_000_000;

const people = [
  {
    phone: '5511999990001@s.whatsapp.net',
    other: '551199990001@s.whatsapp.net',
    lid: '111@lid',
    name: 'Ana',
  },
  {
    phone: '5521988880002@s.whatsapp.net',
    other: '552188880002@s.whatsapp.net',
    lid: '222@lid',
    name: 'Bia',
  },
] as const;
const GROUP = '120363000000000001@g.us';

interface Step {
  what: 'message' | 'status' | 'edit' | 'delete' | 'react';
  /** Which message it is about, or makes. */
  message: number;
  value: number;
}

/** A message is always told by the same words; only its address varies, as it does between events and REST. */
function tellings(message: number, style: number): Captured {
  const person = people[message % 2]!;
  const inGroup = message % 5 === 4;
  const fromMe = message % 3 === 2;
  const id = `MSG${message}`;
  const address = [
    { remoteJid: person.lid, remoteJidAlt: person.phone, addressingMode: 'lid' },
    { remoteJid: person.phone },
    { remoteJid: person.other, remoteJidAlt: fromMe ? OWN : person.lid },
    { remoteJid: person.lid },
  ][style % 4];
  const group = {
    remoteJid: GROUP,
    participant: person.lid,
    ...(style % 2 === 0 && { participantAlt: person.phone }),
  };
  return envelope(style % 3 === 0 ? 'messages.set' : 'messages.upsert', {
    key: { id, fromMe, ...(inGroup ? group : address) },
    pushName: fromMe ? 'Você' : `${person.name} ${message}`,
    status: ['SERVER_ACK', 'DELIVERY_ACK', 'READ'][style % 3],
    message:
      message % 4 === 3
        ? { imageMessage: { caption: `foto ${message}`, mimetype: 'image/jpeg', fileLength: '10' } }
        : { conversation: `texto ${message}` },
    messageTimestamp: T0 + message * 10,
    ...(style % 2 === 0 && { contextInfo: { stanzaId: 'x' } }),
  });
}

function envelope(event: string, data: unknown): Captured {
  return { event, envelope: { event, instance: 'x', data, sender: OWN } };
}

function tell({ what, message, value }: Step): Captured[] {
  const id = `MSG${message}`;
  const person = people[message % 2]!;
  const at = (T0 + message * 10 + value) * 1000;
  switch (what) {
    case 'message':
      return [tellings(message, value)];
    case 'status':
      return [
        envelope('messages.update', {
          keyId: id,
          remoteJid: person.lid,
          fromMe: false,
          status: [2, 'DELIVERY_ACK', 'READ', 'DELETED', 'PLAYED'][value % 5],
        }),
      ];
    case 'edit':
      return [
        envelope('messages.edited', {
          key: { id },
          type: value % 2 ? 14 : 'MESSAGE_EDIT',
          editedMessage: { conversation: `editado ${value}` },
          timestampMs: String(at),
        }),
        envelope('messages.update', {
          keyId: id,
          fromMe: false,
          status: 'SERVER_ACK',
          message: { editedMessage: { message: { conversation: `editado ${value}` } } },
        }),
      ];
    case 'delete':
      return value % 3 > 0
        ? []
        : [envelope('messages.delete', value % 2 ? { id } : { id: 'cuid', key: { id } })];
    case 'react':
      return [
        envelope('messages.upsert', {
          key: {
            id: `R${message}-${value}`,
            fromMe: value % 2 === 0,
            remoteJid: GROUP,
            participant: value % 4 < 2 ? person.lid : person.phone,
          },
          message: {
            reactionMessage: { key: { id }, text: ['👍', '', '❤️'][value % 3], senderTimestampMs: String(at) },
          },
          messageTimestamp: T0 + message * 10 + value,
        }),
      ];
  }
}

// Every message is told once in a way that names both addresses, so that the pair is known in the end.
const everyPair: Captured[] = [tellings(0, 0), tellings(1, 0)];

const steps = fc.array(
  fc.record({
    what: fc.constantFrom<Step['what']>('message', 'message', 'message', 'status', 'edit', 'delete', 'react'),
    message: fc.integer({ min: 0, max: 9 }),
    value: fc.integer({ min: 1, max: 9 }),
  }),
  { minLength: 1, maxLength: 25 },
);

async function ingest(
  instance: Instance,
  envelopes: readonly Captured[],
  cuts: readonly number[],
): Promise<void> {
  const store = createStore(world.pool, me);
  const units = read(envelopes);
  let from = 0;
  for (const cut of [...new Set(cuts.map((c) => c % (units.length + 1))), units.length].sort(
    (a, b) => a - b,
  )) {
    if (cut > from) await store.ingest(instance, units.slice(from, cut));
    from = Math.max(from, cut);
  }
}

test('any order, duplication and bundling gives the same rows', async () => {
  await fc.assert(
    fc.asyncProperty(
      steps,
      fc.infiniteStream(fc.nat()),
      fc.array(fc.nat(200), { maxLength: 12 }),
      async (story, numbers, cuts) => {
        const envelopes = [...everyPair, ...story.flatMap(tell)];
        const inOrder = await addInstance(world);
        await ingest(inOrder, envelopes, []);
        const twice = [...envelopes, ...envelopes].map((e) => [numbers.next().value as number, e] as const);
        const mixed = twice.sort(([a], [b]) => a - b).map(([, e]) => e);
        const other = await addInstance(world);
        await ingest(other, mixed, cuts);
        expect(await stateOf(world, other.tenantId)).toEqual(await stateOf(world, inOrder.tenantId));
        const announced = (await eventsOf(world, other.tenantId))
          .filter((e) => e.event === 'chat:message')
          .map((e) => (e.payload.message as { whatsappMessageId: string }).whatsappMessageId);
        expect(announced).toHaveLength(new Set(announced).size);
      },
    ),
    { numRuns: Number(process.env.RECADO_RUNS ?? 40), interruptAfterTimeLimit: 20_000 },
  );
});
