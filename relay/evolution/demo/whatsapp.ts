// WhatsApp for the demo: an Evolution server in this process, an instance for the sample clinic, and people who write.
import { randomBytes } from 'node:crypto';
import pg from 'pg';
import type { FakeInstance } from './instance.ts';
import { startEvolutionServer } from './server.ts';

const INSTANCE = 'recepcao-demo';

interface Person {
  name: string;
  jid: string;
  lid?: string;
}

const PEOPLE: Person[] = [
  { name: 'Ana Paula', jid: '5511987650001@s.whatsapp.net' },
  { name: 'João Silva', jid: '5521987650002@s.whatsapp.net', lid: '201987650002@lid' },
  { name: 'Beatriz Rocha', jid: '5531987650003@s.whatsapp.net' },
  { name: 'Caio Mendes', jid: '5541987650004@s.whatsapp.net', lid: '202987650004@lid' },
  { name: 'Dona Lourdes', jid: '5551987650005@s.whatsapp.net' },
];

const LINES = [
  'Bom dia! Queria marcar uma consulta.',
  'Tem horário na quinta à tarde?',
  'Posso levar os exames impressos?',
  'Obrigada!',
  'Vou me atrasar uns dez minutos, tudo bem?',
  'Qual o valor da consulta particular?',
  'Atende pelo convênio?',
];
const ANSWERS = [
  'Bom dia! Claro, qual o melhor horário?',
  'Temos às 15h30.',
  'Sem problema.',
  'Combinado, até lá!',
];

export interface WhatsAppDemo {
  close(): Promise<void>;
}

/**
 * Starts the server and adds its instance to the database, for the account given.
 * @param everyMs about how often somebody writes
 */
export async function startWhatsAppDemo(
  databaseUrl: string,
  accountId = '1',
  everyMs = 4_000,
): Promise<WhatsAppDemo> {
  const server = await startEvolutionServer();
  const instance = server.add(INSTANCE, randomBytes(16).toString('hex'));
  for (const [i, person] of PEOPLE.entries()) {
    const messageTimestamp = Math.floor(Date.now() / 1000) - 86_400 + i * 600;
    instance.message({ jid: person.jid, pushName: person.name, text: pick(LINES), messageTimestamp }, true);
  }
  const client = new pg.Client({ connectionString: databaseUrl });
  try {
    await client.connect();
    await client.query(
      `insert into evolution.instances (name, "tenantId", host, "apiKey", "maySend", "mayMarkRead") values ($1, $2, $3, $4, true, true)
       on conflict ("tenantId", name) do update set host = excluded.host, "apiKey" = excluded."apiKey", desired = 'connected'`,
      [INSTANCE, accountId, server.url, instance.token],
    );
  } catch (error) {
    await server.close();
    throw error;
  } finally {
    await client.end();
  }
  const stop = converse(instance, everyMs);
  return {
    async close() {
      stop();
      await server.close();
    },
  };
}

/** Somebody writes, is answered, reacts, edits and revokes: everything that the screens show. */
function converse(instance: FakeInstance, everyMs: number): () => void {
  let turn = 0;
  const say = () => {
    const person = pick(PEOPLE);
    const last = instance.messages.findLast((m) => m.key.remoteJid === person.jid);
    const key =
      last === undefined ? null : { id: last.key.id, remoteJid: person.jid, fromMe: last.key.fromMe };
    switch (turn++ % 8) {
      case 3:
        instance.message({
          jid: person.jid,
          pushName: 'Você',
          text: pick(ANSWERS),
          key: { id: id(), remoteJid: person.jid, fromMe: true },
        });
        break;
      case 5:
        if (key !== null) {
          instance.emit('messages.upsert', {
            key: { id: id(), remoteJid: person.jid, fromMe: false },
            pushName: person.name,
            message: { reactionMessage: { key, text: '👍', senderTimestampMs: Date.now() } },
            messageType: 'reactionMessage',
            messageTimestamp: Math.floor(Date.now() / 1000),
          });
        }
        break;
      case 6:
        if (key?.fromMe === false) {
          instance.emit('messages.edited', {
            key,
            type: 14,
            editedMessage: { conversation: `${pick(LINES)} (corrigido)` },
            timestampMs: Date.now(),
          });
        }
        break;
      case 7:
        if (key?.fromMe === true)
          instance.emit('messages.update', {
            keyId: key.id,
            remoteJid: person.jid,
            fromMe: true,
            status: 'READ',
          });
        break;
      default: {
        const address = person.lid === undefined ? person.jid : person.lid;
        const alternative =
          person.lid === undefined ? {} : { remoteJidAlt: person.jid, addressingMode: 'lid' };
        instance.message({
          pushName: person.name,
          text: pick(LINES),
          key: { id: id(), remoteJid: address, fromMe: false, ...alternative },
        });
      }
    }
  };
  // The first event of a server only creates its namespace, so nobody receives it.
  instance.emit('connection.update', { instance: INSTANCE, state: 'open', statusReason: 200 });
  const timer = setInterval(say, everyMs);
  const greeting = setInterval(() => {
    if (!instance.subscribed) return;
    clearInterval(greeting);
    instance.emit('connection.update', { instance: INSTANCE, state: 'open', statusReason: 200 });
  }, 100);
  return () => {
    clearInterval(timer);
    clearInterval(greeting);
  };
}

function id(): string {
  return randomBytes(10).toString('hex').toUpperCase();
}

function pick<T>(items: readonly T[]): T {
  return items[Math.floor(Math.random() * items.length)]!;
}
