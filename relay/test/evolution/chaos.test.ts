// A worker and a server that are killed, restarted and changed in turns, while messages come and go. In the end the
// tables equal the server's own store, every message was told once, each chat in its order, and no key is anywhere.
//
//   RECADO_CHAOS_SECONDS=600 RECADO_CHAOS_SEED=7 npm run test:file -- evolution/chaos      the long form
import { type ChildProcess, spawn } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { join } from 'node:path';
import { type EvolutionServer, startEvolutionServer } from '../../evolution/demo/server.ts';
import { Chance } from '../faults/chance.ts';
import { until } from '../world.ts';
import { endSessionsOfTheKilled, eventsOf, startWorld, type World } from './world.ts';

const SECONDS = Number(process.env.RECADO_CHAOS_SECONDS ?? 15);
const SEED = Number(process.env.RECADO_CHAOS_SEED ?? 1);
const NAME = 'demo';
const TENANT = 't';
const root = join(import.meta.dirname, '..', '..', '..');

let world: World;
let evolution: EvolutionServer;
let worker: ChildProcess | null = null;
let output = '';

beforeAll(async () => {
  world = await startWorld();
  evolution = await startEvolutionServer();
});
afterAll(async () => {
  await killWorker();
  await evolution.close();
  await endSessionsOfTheKilled(world);
  await world.close();
});

function startWorker(): void {
  worker = spawn(
    process.execPath,
    [
      '--import',
      'tsx',
      join(root, 'relay/test/evolution/process.ts'),
      world.url,
      '{"lookMs":300,"unsureMs":1500}',
    ],
    { cwd: root, stdio: ['ignore', 'pipe', 'pipe'] },
  );
  for (const stream of [worker.stdout, worker.stderr])
    stream?.on('data', (data) => {
      output = (output + String(data)).slice(-200_000);
    });
}

async function killWorker(): Promise<void> {
  if (worker === null) return;
  const ended = once(worker, 'exit');
  worker.kill('SIGKILL');
  await ended;
  worker = null;
}

const jid = (n: number) => `551199977${1000 + n}@s.whatsapp.net`;

test(
  `seed ${SEED}, ${SECONDS} seconds`,
  async () => {
    const chance = new Chance(SEED, 'chaos');
    const token = `TOKEN-${randomBytes(6).toString('hex')}`;
    let fake = evolution.add(NAME, token);
    /** Everything that any incarnation of the instance has stored. */
    const stored = new Map<string, string>();
    const history = new Set<string>();
    /** Heard of an instance that was then deleted, while they waited for a reading, which no longer has them. */
    const orphans = new Set<string>();
    /** What instances that were then deleted had stored. */
    const lost = new Set<string>();
    let secretsTold = 0;
    const now = () => Math.floor(Date.now() / 1_000);
    let said = 0;
    let isUp = true;
    let replies = 0;

    const remember = () => {
      for (const message of fake.messages)
        stored.set(message.key.id, String((message.message as { conversation?: unknown })?.conversation));
    };
    const addHistory = () => {
      for (let n = 0; n < 5; n += 1) {
        const messageTimestamp = now() - 10 * 86_400 + n;
        history.add(
          fake.message({ text: `old ${n}`, jid: jid(chance.between(0, 4)), messageTimestamp }, true).key.id,
        );
      }
    };
    const ours = async () =>
      new Map(
        (
          await world.rows<{ id: string; content: string }>(
            'select "whatsappMessageId" as id, content from evolution.messages where "whatsappMessageId" is not null',
          )
        ).map(({ id, content }) => [id, content]),
      );
    const connect = () => fake.emit('connection.update', { instance: NAME, state: 'open' });

    await world.rows(
      `insert into evolution.instances (name, "tenantId", host, "apiKey", "maySend", "sendsPerMinute") values ($1, $2, $3, $4, true, 600)`,
      [NAME, TENANT, evolution.url, token],
    );
    await world.rows(
      `insert into evolution.chats ("tenantId", "instanceName", "whatsappChatId") values ($1, $2, $3)`,
      [TENANT, NAME, jid(0)],
    );
    startWorker();
    await until('the worker subscribed', () => fake.subscribed, 30_000);
    connect();

    const deeds: [weight: number, deed: () => Promise<void> | void][] = [
      [
        40,
        () => {
          said += 1;
          fake.message({ text: `m${said}`, jid: jid(chance.between(0, 4)), messageTimestamp: now() }, !isUp);
        },
      ],
      [
        6,
        async () => {
          fake.sendFault = () =>
            chance.between(0, 3) > 0 ? null : chance.between(0, 1) === 0 ? 'before' : 'after';
          // One whose connection broke off holds up the others for a while: in the end all must have gone.
          const inserted = await world.rows(
            `insert into evolution.outgoing ("tenantId", "instanceName", "chatId", text)
             select $1, $2, min(id), $3 from evolution.chats where "instanceName" = $2
             having (select count(*) from evolution.outgoing where status in ('QUEUED', 'SENDING')) < 10
             returning id`,
            [TENANT, NAME, `reply ${replies + 1}`],
          );
          replies += inserted.length;
        },
      ],
      [
        2,
        () => {
          secretsTold += 1;
          fake.emit('messages.edited', {
            type: 'APP_STATE_SYNC_KEY_SHARE',
            appStateSyncKeyShare: { keys: [{ keyId: { keyId: 'AAAA' }, keyData: { keyData: 'U0VDUkVU' } }] },
          });
        },
      ],
      [
        1,
        async () => {
          await killWorker();
          startWorker();
        },
      ],
      [
        1,
        async () => {
          await evolution.down();
          isUp = false;
          if (chance.between(0, 1) === 0) addHistory();
        },
      ],
      [
        1,
        async () => {
          remember();
          const have = await ours();
          for (const { key } of fake.messages) {
            if (!have.has(key.id)) orphans.add(key.id);
            lost.add(stored.get(key.id) ?? '');
          }
          evolution.remove(NAME);
          fake = evolution.add(NAME, token);
          if (isUp) connect();
        },
      ],
      [
        1,
        () => {
          fake.events = ['QRCODE_UPDATED'];
        },
      ],
    ];
    const total = deeds.reduce((sum, [weight]) => sum + weight, 0);

    for (const end = Date.now() + SECONDS * 1_000; Date.now() < end; ) {
      let pick = chance.between(0, total - 1);
      const [, deed] = deeds.find(([weight]) => {
        pick -= weight;
        return pick < 0;
      })!;
      await deed();
      remember();
      if (!isUp && chance.between(0, 9) === 0) {
        await evolution.up();
        isUp = true;
        // History of the phone at boot, when nobody can listen yet.
        if (chance.between(0, 1) === 0) addHistory();
        connect();
      }
      await new Promise((resolve) => setTimeout(resolve, chance.between(0, 59)));
    }

    if (!isUp) await evolution.up();
    fake.sendFault = null;
    connect();
    remember();
    // It may have been killed just before, and has to start and to take over the lease.
    await until(
      'the worker hears everything',
      () => {
        fake.emit('presence.update', {});
        return fake.subscribed && fake.events.length === 0;
      },
      60_000,
    );
    const settledRows = () =>
      world.rows(`select 1 from evolution.outgoing where status in ('QUEUED', 'SENDING')`);
    await until('no reply waits', async () => (await settledRows()).length === 0, 60_000);
    remember();
    // What a lost instance had, and nobody had read yet, is gone with it. What this one has must all be there.
    let have = await ours();
    const missing = () => fake.messages.filter(({ key }) => !have.has(key.id));
    await until(
      'the tables have what the server has',
      async () => {
        have = await ours();
        return missing().length === 0;
      },
      60_000,
    ).catch(() => undefined);
    expect(missing()).toEqual([]);
    for (const [id, content] of have) expect(stored.get(id)).toBe(content);

    // Each once, each chat in its order.
    const told = (await eventsOf(world, TENANT)).filter(({ event }) => event === 'chat:message');
    const ids = told.map(
      ({ payload }) => (payload.message as { whatsappMessageId: string }).whatsappMessageId,
    );
    expect(new Set(ids).size).toBe(ids.length);
    const newest = new Map<unknown, string>();
    const late: string[] = [];
    for (const { payload } of told) {
      const { whatsappMessageId: id, sentAt } = payload.message as {
        whatsappMessageId: string;
        sentAt: string;
      };
      // Replies are dated now, history before everything.
      if (history.has(id) || orphans.has(id) || stored.get(id)?.startsWith('reply')) continue;
      if (sentAt < (newest.get(payload.chatId) ?? '')) late.push(id);
      else newest.set(payload.chatId, sentAt);
    }
    expect(late).toEqual([]);

    // A reply is at most once in the server's store, and the row says which it is.
    const sent = [...stored.values()].filter((content) => content.startsWith('reply '));
    expect(new Set(sent).size).toBe(sent.length);
    const rows = await world.rows<{ text: string; status: string; id: string | null; code: string | null }>(
      'select text, status, "whatsappMessageId" as id, "reasonCode" as code from evolution.outgoing',
    );
    expect(rows).toHaveLength(replies);
    const unsure = rows.filter(({ status }) => status === 'FAILED');
    for (const { text, status, id } of rows) if (status !== 'FAILED') expect(stored.get(id ?? '')).toBe(text);
    expect(new Set(unsure.map(({ code }) => code))).toEqual(
      new Set(unsure.length > 0 ? ['send_unsure'] : []),
    );
    // A request broke off, and the instance that had stored the message was deleted before its history was read.
    const inStore = unsure.filter(({ text }) => sent.includes(text));
    expect(inStore.filter(({ text }) => !lost.has(text))).toEqual([]);
    if (SECONDS >= 600) {
      expect(replies).toBeGreaterThanOrEqual(200);
      // biome-ignore lint/suspicious/noConsole: the long form says what it has seen
      console.info(
        `${replies} replies, ${unsure.length} failed, of these ${inStore.length} in a deleted store`,
      );
    }

    expect(secretsTold + replies).toBeGreaterThan(0);
    const everything = await world.rows<{ text: string }>(
      `select to_jsonb(r)::text as text from evolution.rejected as r
       union all select to_jsonb(m)::text from evolution.messages as m
       union all select to_jsonb(e)::text from relay.events as e`,
    );
    for (const { text } of everything) expect(text).not.toMatch(/U0VDUkVU|TOKEN-/);
    expect(output).not.toMatch(/U0VDUkVU|TOKEN-/);
  },
  SECONDS * 1_000 + 180_000,
);
