// The SQL for messages that the team sends, and for chats that the team has read.
import type pg from 'pg';
import type { Outgoing } from '../api/api.ts';
import type { Instance } from '../ingest/instance.ts';

/** A row of evolution.outgoing. */
export interface OutgoingRow extends Outgoing {
  readonly id: string;
  /** When a worker began to send it, in ms since 1970. */
  readonly startedAt: number;
}

/** A chat that the team has read, with its newest incoming messages. */
export interface Receipt {
  readonly chatId: string;
  readonly askedAt: string;
  readonly jid: string;
  readonly messageIds: readonly string[];
}

/** A receipt of the newest message covers the older ones. */
const MESSAGES_PER_RECEIPT = 50;

const COLUMNS = `o.id::text, coalesce((select c."whatsappChatId" from evolution.chats as c where c.id = o."chatId"), o."whatsappChatId") as to,
  coalesce(o.text, '') as text, o.media, o."quotedMessageId", (extract(epoch from o."startedAt") * 1000)::float8 as "startedAt"`;

export class OutgoingStore {
  readonly #pool: pg.Pool;

  constructor(pool: pg.Pool) {
    this.#pool = pool;
  }

  /** Takes the oldest row that waits; null if none does. */
  async take({ tenantId, name }: Instance): Promise<OutgoingRow | null> {
    const { rows } = await this.#pool.query<OutgoingRow>(
      `update evolution.outgoing as o set status = 'SENDING', "startedAt" = clock_timestamp()
        where o.id = (select q.id from evolution.outgoing as q
                       where q."tenantId" = $1 and q."instanceName" = $2 and q.status = 'QUEUED'
                       order by q.id limit 1 for update skip locked)
       returning ${COLUMNS}`,
      [tenantId, name],
    );
    return rows[0] ?? null;
  }

  /** Rows that were being sent when a worker or the database stopped. Nobody knows whether they were sent. */
  async unsure({ tenantId, name }: Instance): Promise<OutgoingRow[]> {
    const { rows } = await this.#pool.query<OutgoingRow>(
      `select ${COLUMNS} from evolution.outgoing as o
        where o."tenantId" = $1 and o."instanceName" = $2 and o.status = 'SENDING' order by o.id`,
      [tenantId, name],
    );
    return rows;
  }

  /** Stores the id of the sent message. From now on the row's status follows that of the message. */
  async sent({ id }: OutgoingRow, whatsappMessageId: string): Promise<void> {
    await this.#pool.query(
      `update evolution.outgoing set status = 'PENDING', "reasonCode" = null, reason = null, "whatsappMessageId" = $2, "finishedAt" = clock_timestamp()
        where id = $1 and status = 'SENDING'`,
      [id, whatsappMessageId],
    );
  }

  async failed({ id }: OutgoingRow, code: string, reason: string): Promise<void> {
    await this.#pool.query(
      `update evolution.outgoing set status = 'FAILED', "reasonCode" = $2, reason = $3, "finishedAt" = clock_timestamp()
        where id = $1 and status = 'SENDING'`,
      [id, code, reason],
    );
  }

  /** The request never reached the server: the row waits again. */
  async putBack({ id }: OutgoingRow): Promise<void> {
    await this.#pool.query(
      `update evolution.outgoing set status = 'QUEUED', "startedAt" = null where id = $1 and status = 'SENDING'`,
      [id],
    );
  }

  /** Which of these messages belong to no row yet. */
  async unclaimed({ tenantId, name }: Instance, messageIds: readonly string[]): Promise<Set<string>> {
    const { rows } = await this.#pool.query<{ id: string }>(
      `select sent.id from unnest($3::text[]) as sent(id)
        where not exists (select from evolution.outgoing as o
                           where o."tenantId" = $1 and o."instanceName" = $2 and o."whatsappMessageId" = sent.id)`,
      [tenantId, name, messageIds],
    );
    return new Set(rows.map(({ id }) => id));
  }

  async receipts({ tenantId, name }: Instance): Promise<Receipt[]> {
    const { rows } = await this.#pool.query<Receipt>(
      `select c.id::text as "chatId", r.asked_at::text as "askedAt", c."whatsappChatId" as jid,
              array(select m."whatsappMessageId" from evolution.messages as m
                     where m."chatId" = c.id and m.direction = 'INCOMING' and m.status not in ('READ', 'PLAYED') and m."whatsappMessageId" is not null
                     order by m."sentAt" desc, m.id desc limit ${MESSAGES_PER_RECEIPT}) as "messageIds"
         from evolution.receipts as r join evolution.chats as c on c.id = r.chat_id
        where c."tenantId" = $1 and c."instanceName" = $2`,
      [tenantId, name],
    );
    return rows;
  }

  /** Removes the receipt, unless the chat was read again meanwhile. */
  async receiptDone({ chatId, askedAt }: Receipt): Promise<void> {
    await this.#pool.query('delete from evolution.receipts where chat_id = $1 and asked_at = $2', [
      chatId,
      askedAt,
    ]);
  }
}
