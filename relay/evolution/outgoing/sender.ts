// Sends the rows of evolution.outgoing, and tells WhatsApp which chats the team has read.
//
// Nothing is sent again unless a person asks for it. Evolution takes no id from its callers, so after a broken request
// it is not known whether the message was sent. A while later the server's history decides: if it has the message, the
// row gets its id; if not, the row fails and says so.
import { setTimeout as delay } from 'node:timers/promises';
import { errorText } from '../../errors.ts';
import type { Log } from '../../log.ts';
import type { Api } from '../api/api.ts';
import { EvolutionError } from '../api/request.ts';
import type { Instance } from '../ingest/instance.ts';
import type { Store } from '../ingest/store.ts';
import { textOf } from '../payloads/content.ts';
import { Facts } from '../payloads/facts.ts';
import { readObject, readText } from '../payloads/field.ts';
import { type Address, readAddress } from '../payloads/jid.ts';
import { type Arrival, readMessage } from '../payloads/message.ts';
import type { OutgoingRow, OutgoingStore } from './outgoing.ts';

export interface SenderOptions {
  instance: Instance;
  api: Api;
  store: Store;
  outgoing: OutgoingStore;
  /** How long after a broken request the server's history tells whether the message was sent. */
  unsureMs: number;
  log: Log;
  signal: AbortSignal;
}

export interface Sender {
  /** There is something to send, or to mark read. Calls during a run start one more run. */
  wake(may: Pick<Instance, 'maySend' | 'mayMarkRead' | 'sendsPerMinute'>): void;
  /** Resolves when nothing is being sent. */
  idle(): Promise<void>;
}

const NOT_ALLOWED =
  'Sending is switched off for this instance: update evolution.instances set "maySend" = true where name = …, then insert the message again.';
const UNSURE =
  "The connection broke while the message was being sent, and the server's history does not have it. Look at the phone; insert the message again if it is missing.";
const LOOK_PAGE = 100;
/** How far the clocks of database and server may differ. */
const CLOCKS_MS = 10_000;

export function createSender(options: SenderOptions): Sender {
  const { instance, api, store, outgoing, unsureMs, log, signal } = options;
  let may: Pick<Instance, 'maySend' | 'mayMarkRead' | 'sendsPerMinute'> = instance;
  let running: Promise<void> | null = null;
  let again = false;
  let lastSentAt = 0;
  let failures = 0;
  let notBefore = 0;

  async function run(): Promise<void> {
    try {
      do {
        again = false;
        await sendAll();
        await markAllRead();
        failures = 0;
      } while (again && !signal.aborted);
    } catch (error) {
      if (signal.aborted) return;
      notBefore = Date.now() + Math.min(30_000, 500 * 2 ** Math.min(failures, 8));
      failures += 1;
      if (failures === 1 || failures % 20 === 0)
        log.say('evolution_send_failed', { instance: instance.name, error: errorText(error) });
    }
  }

  async function sendAll(): Promise<void> {
    for (const row of await outgoing.unsure(instance)) await settle(row);
    while (!signal.aborted) {
      const row = await outgoing.take(instance);
      if (row === null) return;
      if (may.maySend) await send(row);
      else await outgoing.failed(row, 'sending_not_allowed', NOT_ALLOWED);
    }
  }

  async function send(row: OutgoingRow): Promise<void> {
    const rest = lastSentAt + 60_000 / may.sendsPerMinute - Date.now();
    if (rest > 0) {
      try {
        await delay(rest, undefined, { signal });
      } catch (error) {
        await outgoing.putBack(row);
        throw error;
      }
    }
    lastSentAt = Date.now();
    let answer: unknown;
    try {
      answer = await api.send(row);
    } catch (error) {
      if (!(error instanceof EvolutionError)) throw error;
      if (error.neverArrived) {
        await outgoing.putBack(row);
        throw error;
      }
      if (error.code === 'evolution_unreachable') await settle(row);
      else await outgoing.failed(row, error.code, error.message);
      return;
    }
    await take(row, answer, { as: 'live' });
  }

  /** Stores the message as the server has it, whether or not its event arrives. */
  async function take(row: OutgoingRow, message: unknown, arrival: Arrival): Promise<void> {
    const id = readText(readObject(readObject(message)?.key)?.id);
    if (id === null) {
      const reason = 'The server accepted the message but returned no id. Look at the phone.';
      await outgoing.failed(row, 'send_without_id', reason);
      return;
    }
    await outgoing.sent(row, id);
    const facts = new Facts();
    const context = { own: readAddress(instance.ownJid), skip: new Set(instance.skip) };
    readMessage(facts, message, arrival, context);
    await store.ingest(instance, [{ event: 'send.message', facts }]);
  }

  /** After a broken request: waits until the server has had time to store the message, and looks for it. */
  async function settle(row: OutgoingRow): Promise<void> {
    const rest = row.startedAt + unsureMs - Date.now();
    if (rest > 0) await delay(rest, undefined, { signal });
    const from = new Date(row.startedAt - CLOCKS_MS);
    const candidates: { id: string; message: unknown }[] = [];
    for (let page = 1, pages = 1; page <= pages; page += 1) {
      const answer = await api.messages(from, page, LOOK_PAGE);
      pages = answer.pages ?? 1;
      for (const message of answer.records) {
        const id = isOutcome(row, message);
        if (id !== null) candidates.push({ id, message });
      }
    }
    const unclaimed = await outgoing.unclaimed(
      instance,
      candidates.map(({ id }) => id),
    );
    // Candidates are newest first, and the row's message is the oldest of them.
    const outcome = candidates.findLast(({ id }) => unclaimed.has(id));
    if (outcome === undefined) await outgoing.failed(row, 'send_unsure', UNSURE);
    else await take(row, outcome.message, { as: 'rest', readAt: Date.now(), deletedIsRevoked: false });
  }

  async function markAllRead(): Promise<void> {
    for (const receipt of await outgoing.receipts(instance)) {
      try {
        if (may.mayMarkRead && receipt.messageIds.length > 0) await api.markRead(receipt);
      } catch (error) {
        const isRefusal = error instanceof EvolutionError && error.code !== 'evolution_unreachable';
        if (!isRefusal) throw error;
        log.say('evolution_send_failed', { instance: instance.name, error: errorText(error) });
      }
      await outgoing.receiptDone(receipt);
    }
  }

  return {
    wake(now) {
      may = now;
      if (Date.now() < notBefore) return;
      again = true;
      running ??= run().finally(() => {
        running = null;
      });
    },
    async idle() {
      await running;
    },
  };
}

/** The id of a message in the server's history that has the row's text and recipient; null for any other. */
function isOutcome(row: OutgoingRow, message: unknown): string | null {
  const fields = readObject(message);
  const key = readObject(fields?.key);
  if (key?.fromMe !== true && key?.fromMe !== 'true') return null;
  const to = readAddress(row.to);
  const addresses = [key.remoteJid, key.remoteJidAlt, key.previousRemoteJid].map(readAddress);
  if (!addresses.some((address: Address | null) => address !== null && address.alias === to?.alias))
    return null;
  return textOf(fields?.message) === row.text ? readText(key.id) : null;
}
