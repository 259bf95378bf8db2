// A WhatsApp history over REST and a burst over the websocket, against a findFirst-then-create loop, as an ORM
// sends it, on the same tables. Usage: npm run bench:ingest -- [chats] [messages]
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import pg from 'pg';
import { startEmbedded } from '../../relay/db/embedded.ts';
import type { StoredMessage } from '../../relay/evolution/demo/instance.ts';
import { migrate } from '../../relay/install/migrate.ts';
import { createLog } from '../../relay/log.ts';
import { compiled } from './compiled.ts';

const { startEvolutionServer } =
  await compiled<typeof import('../../relay/evolution/demo/server.ts')>('evolution/demo/server.js');
const { startEvolutionWorker } =
  await compiled<typeof import('../../relay/evolution/worker.ts')>('evolution/worker.js');

const CHATS = Number(process.argv[2] ?? 5_000);
const MESSAGES = Number(process.argv[3] ?? 50_000);
const BURST = MESSAGES / 5;
// The loop is measured on a part and scaled; the whole takes minutes and says the same.
const LOOPED = Math.min(MESSAGES, 3_000);

const say = (line: string) => process.stdout.write(`${line}\n`);

function jid(chat: number): string {
  return `551198${String(1_000_000 + chat)}@s.whatsapp.net`;
}

function message(i: number, at: number): StoredMessage {
  return {
    key: {
      id: `3EB0${i.toString(16).padStart(12, '0').toUpperCase()}`,
      remoteJid: jid((i * 7919) % CHATS),
      fromMe: i % 3 === 0,
    },
    pushName: i % 3 === 0 ? 'Você' : `Pessoa ${(i * 7919) % CHATS}`,
    message: {
      conversation: `mensagem ${i}: ${'bom dia, gostaria de marcar uma consulta '.repeat(1 + (i % 3))}`,
    },
    messageType: 'conversation',
    messageTimestamp: at + i,
    source: 'android',
  };
}

async function main(): Promise<void> {
  const dataDir = mkdtempSync(join(tmpdir(), 'recado-bench-'));
  const postgres = await startEmbedded({ dataDir, settings: {} });
  const evolution = await startEvolutionServer();
  const pool = new pg.Pool({ connectionString: postgres.url, max: 10 });
  pool.on('error', () => undefined);
  try {
    await migrate({ databaseUrl: postgres.url, log: createLog('warn', false), packs: ['whatsapp'] });

    const looped = await findFirstLoop(pool);
    say(
      `findFirst loop:    ${LOOPED} messages in ${looped.toFixed(0)} ms = ${((LOOPED / looped) * 1000).toFixed(0)}/s`,
    );

    const fake = evolution.add('historia');
    for (let i = 0; i < MESSAGES; i++) fake.messages.push(message(i, 1_790_000_000));
    for (let c = 0; c < CHATS; c++) {
      fake.chats.push({
        id: `c${c}`,
        remoteJid: jid(c),
        pushName: `Pessoa ${c}`,
        updatedAt: new Date(1_790_000_000_000 + c).toISOString(),
        unreadCount: c % 10 === 0 ? 3 : 0,
      });
    }
    // Sorted as the server would, so that its sorting is not what is measured.
    fake.messages.sort((a, b) => b.messageTimestamp - a.messageTimestamp);
    let peak = 0;
    const watch = setInterval(() => (peak = Math.max(peak, process.memoryUsage().rss)), 50);
    global.gc?.();
    const before = process.memoryUsage().rss;
    const count = async () =>
      (
        await pool.query<{ n: number }>(
          `select count(*)::int as n from evolution.messages where "instanceName" = 'historia'`,
        )
      ).rows[0]!.n;
    const began = performance.now();
    const cpu = process.cpuUsage();
    await pool.query(
      `insert into evolution.instances (name, "tenantId", host, "apiKey") values ('historia', 'bench', $1, $2)`,
      [evolution.url, fake.token],
    );
    const worker = await startEvolutionWorker({
      pool,
      connectionString: postgres.url,
      log: createLog('warn', false),
    });
    while ((await pool.query('select 1 from evolution.sources where synced_at is not null')).rowCount === 0)
      await new Promise((r) => setTimeout(r, 20));
    const rest = performance.now() - began;
    say(
      `history over REST: ${await count()} messages and ${CHATS} chats in ${rest.toFixed(0)} ms = ${((MESSAGES / rest) * 1000).toFixed(0)}/s (server and worker in this process: ${Math.round(process.cpuUsage(cpu).user / 1000)} ms of CPU)`,
    );

    // The same history as the phone sends it after pairing: chats.set and messages.set with arrays.
    const paired = evolution.add('pareada');
    const connected = async (name: string) => {
      await pool.query(
        `insert into evolution.instances (name, "tenantId", host, "apiKey") values ($1, 'bench', $2, $3) on conflict do nothing`,
        [name, evolution.url, name === 'pareada' ? paired.token : ''],
      );
      while (
        (await pool.query(`select 1 from evolution.instances where name = $1 and status = 'waiting'`, [name]))
          .rowCount === 0
      )
        await new Promise((r) => setTimeout(r, 20));
      evolution.instance(name).emit('connection.update', { state: 'open', instance: name });
      while (
        (
          await pool.query(`select 1 from evolution.instances where name = $1 and status = 'connected'`, [
            name,
          ])
        ).rowCount === 0
      )
        await new Promise((r) => setTimeout(r, 20));
    };
    await connected('pareada');
    const countIn = async (name: string) =>
      (
        await pool.query<{ n: number }>(
          `select count(*)::int as n from evolution.messages where "instanceName" = $1`,
          [name],
        )
      ).rows[0]!.n;
    const socketBegan = performance.now();
    for (let c = 0; c < CHATS; c += 500) {
      paired.emit(
        'chats.set',
        Array.from({ length: 500 }, (_, i) => ({ remoteJid: jid(c + i), name: `Pessoa ${c + i}` })),
      );
    }
    for (let i = 0; i < MESSAGES; i += 500) {
      paired.emit(
        'messages.set',
        Array.from({ length: 500 }, (_, j) => message(MESSAGES - 1 - i - j, 1_790_000_000)),
      );
      await new Promise((r) => setImmediate(r));
    }
    while ((await countIn('pareada')) < MESSAGES) await new Promise((r) => setTimeout(r, 20));
    const socket = performance.now() - socketBegan;
    say(
      `history by websocket: ${MESSAGES} messages and ${CHATS} chats in ${socket.toFixed(0)} ms = ${((MESSAGES / socket) * 1000).toFixed(0)}/s`,
    );

    const live = performance.now();
    for (let i = 0; i < BURST; i++) {
      paired.emit('messages.upsert', message(MESSAGES + i, 1_795_000_000));
      if (i % 500 === 0) await new Promise((r) => setImmediate(r));
    }
    while ((await countIn('pareada')) < MESSAGES + BURST) await new Promise((r) => setTimeout(r, 20));
    const burst = performance.now() - live;
    clearInterval(watch);
    say(
      `live burst, one envelope each: ${BURST} messages in ${burst.toFixed(0)} ms = ${((BURST / burst) * 1000).toFixed(0)}/s`,
    );
    const times = (messages: number, ms: number) => (messages / ms / (LOOPED / looped)).toFixed(1);
    say(
      `times faster than the loop: REST ${times(MESSAGES, rest)}, websocket ${times(MESSAGES, socket)}, live burst ${times(BURST, burst)}`,
    );
    say(
      `memory: ${(before / 2 ** 20).toFixed(0)} MiB before (the server's data included), ${(peak / 2 ** 20).toFixed(0)} MiB at most`,
    );
    await worker.close();
  } finally {
    await evolution.close();
    await pool.end();
    await postgres.stop();
    rmSync(dataDir, { recursive: true, force: true });
  }
}

/**
 * An application that looks up each row before it writes it, statement by statement, as an ORM sends them: on a part of
 * the history with a chat for every ten messages, as in the whole.
 */
async function findFirstLoop(pool: pg.Pool): Promise<number> {
  const began = performance.now();
  const chats = Math.ceil((LOOPED * CHATS) / MESSAGES);
  const find = (address: string) =>
    pool.query<{ id: string; unreadCount: number }>(
      'select * from evolution.chats where "whatsappChatId" = $1 and "tenantId" = $2 limit 1',
      [address, 'seed'],
    );
  for (let c = 0; c < chats; c++) {
    if ((await find(jid(c))).rows.length > 0) continue;
    await pool.query(
      'insert into evolution.chats ("whatsappChatId", "contactName", "contactNumber", status, "tenantId", "lastMessageAt", "unreadCount") values ($1, $2, $3, $4, $5, now(), $6) returning *',
      [jid(c), `Pessoa ${c}`, jid(c).replace('@s.whatsapp.net', ''), 'ACTIVE', 'seed', 0],
    );
  }
  for (let i = 0; i < LOOPED; i++) {
    const m = message(i, 1_790_000_000);
    const chat = (await find(jid(i % chats))).rows[0]!;
    await pool.query(
      'insert into evolution.messages ("chatId", "whatsappMessageId", content, direction, status, "tenantId") values ($1, $2, $3, $4, $5, $6) returning *',
      [
        chat.id,
        m.key.id,
        (m.message as { conversation: string }).conversation,
        m.key.fromMe ? 'OUTGOING' : 'INCOMING',
        'DELIVERED',
        'seed',
      ],
    );
    await pool.query(
      'update evolution.chats set "lastMessageAt" = now(), "unreadCount" = $2 where id = $1 returning *',
      [chat.id, m.key.fromMe ? 0 : chat.unreadCount + 1],
    );
  }
  return performance.now() - began;
}

await main();
