// What the page asks of the relay, beside Socket.IO.
//
//   GET  /console/session      whether this is the demonstration
//   GET  /console/contract     the contract; for any token, with its SQL and how it was published for operators. Also as
//                              contract.asyncapi.json and contract.d.ts
//   GET  /console/events       the last stored events of the token's account, or of one of its topics, and the position
//                              behind them
//   GET  /console/event        what became of one of them
//   GET  /console/rows         rows that an event of the contract may be tried with; for operators
//   GET  /console/preview      what the event would be for one of them, and who hears it; for operators
//   GET  /console/operations   the relay's state; for operators
//   POST /demo/tokens          the sample accounts, who may look     ┐ only of `recado start` on the embedded database,
//   GET  /demo/clinic          an account's list and its position    ├ and only for a browser on this machine
//   POST /demo/act             one of the sample's statements        ┘
import type { IncomingMessage } from 'node:http';
import type pg from 'pg';
import { z } from 'zod';
import { signToken } from '../auth/sign.ts';
import { bearerFrom, type Identity } from '../auth/token.ts';
import type { Settings } from '../config/settings.ts';
import { toAsyncApi } from '../contract/asyncapi.ts';
import { type ContractEvent, readContract } from '../contract/read.ts';
import { toTypeScript } from '../contract/typescript.ts';
import { transaction } from '../db/connect.ts';
import { isLocal, isOperator, refuseOthersThanOperators } from '../http/operators.ts';
import {
  emittedBy,
  RefusedRequest,
  type RequestContext,
  type Route,
  type Routes,
  readJson,
} from '../http/reply.ts';
import { version } from '../package.ts';
import { ATTENDANTS, act, isActionName, loadClinic } from './clinic.ts';
import { findEvents, readStored, type StoredEvent, topicsHeard, type Wanted } from './events.ts';
import { OperationsReader } from './operations.ts';
import { pageRoutes } from './page.ts';
import { readChoices, readPreview } from './preview.ts';

export interface ConsoleOptions {
  /** Of a few connections; queries that take long are ended. */
  pool: pg.Pool;
  roomPrefix: string;
  /** How tokens of the sample accounts are signed; null: not a demonstration, nothing writes. */
  demo: Settings['jwt'] | null;
}

const TOKEN_SECONDS = 3_600;
/** The reception hears every conversation; an attendant hears their own (sql/demo/attendants.sql). */
const PEOPLE = [
  { id: 'recepcao', name: 'Recepção', topics: ['reception'] },
  ...ATTENDANTS.map(({ id, name }) => ({ id, name, topics: [] })),
];
const MAX_BODY_BYTES = 1_024;

export async function consoleRoutes({ pool, roomPrefix, demo }: ConsoleOptions): Promise<Routes> {
  const operations = new OperationsReader(pool);
  return {
    ...(await pageRoutes()),
    'GET /console/session': (request) => ({
      status: 200,
      body: { demo: demo !== null && isLocal(request), version },
    }),
    'GET /console/contract': async (request, context) => {
      const events = await contractFor(request, context);
      const calls = isOperator(request, context) ? await readCalls(pool) : {};
      return { status: 200, body: { events, calls } };
    },
    'GET /console/contract.asyncapi.json': async (request, context) => {
      return { status: 200, body: toAsyncApi(await contractFor(request, context), roomPrefix) };
    },
    'GET /console/contract.d.ts': async (request, context) => {
      const type = 'text/plain; charset=utf-8';
      return { status: 200, body: toTypeScript(await contractFor(request, context)), type };
    },
    'GET /console/events': async (request, context) => {
      const identity = await identify(request, context);
      const topics = topicsHeard(identity);
      const topic = askedIn(request).get('topic');
      if (topic !== null && !topics.includes(topic)) {
        const sentence =
          'The token does not hear this topic: without ?topic=, the answer lists the topics that it hears.';
        throw new RefusedRequest(400, 'topic_unknown', sentence);
      }
      const body = { account: identity.accountId, topics, ...(await loadEvents(identity, topic)) };
      return { status: 200, body };
    },
    'GET /console/event': async (request, context) => {
      const identity = await identify(request, context);
      const found = await findEvents(pool, identity, wantedIn(request));
      const events = [];
      let silent = 0;
      for (const event of found) {
        // A process that does not answer is waited for once.
        const by = silent > 0 ? { emitted: [], silent } : await emittedBy(context, BigInt(event.id));
        silent = by.silent;
        events.push({ ...event, emitted: by.emitted });
      }
      return { status: 200, body: { events } };
    },
    'GET /console/rows': async (request, context) => {
      refuseOthersThanOperators(request, context);
      return { status: 200, body: { rows: await readChoices(pool, askedIn(request).get('event') ?? '') } };
    },
    'GET /console/preview': async (request, context) => {
      refuseOthersThanOperators(request, context);
      const asked = askedIn(request);
      const event = asked.get('event') ?? '';
      const row = { table: asked.get('table') ?? '', at: asked.get('at') ?? '' };
      const previews = (await readPreview(pool, event, row)).map((preview) => ({
        ...preview,
        room: preview.account === null ? null : roomPrefix + preview.account,
        sockets: preview.account === null ? 0 : context.subscribers.countHearing({ ...preview, event }),
      }));
      return { status: 200, body: { previews } };
    },
    'GET /console/operations': async (request, context) => {
      refuseOthersThanOperators(request, context);
      return { status: 200, body: await operations.read(context) };
    },
    ...(demo && demoRoutes(pool, demo)),
  };

  /** One snapshot: who connects with the position misses nothing, and hears nothing twice. */
  async function loadEvents(
    identity: Identity,
    topic: string | null,
  ): Promise<{ position: string; events: StoredEvent[] }> {
    return transaction(pool, async (client) => {
      await client.query('set transaction isolation level repeatable read, read only');
      const { rows } = await client.query<{ position: string }>('select relay.position() as position');
      return { position: rows[0]!.position, events: await readStored(client, identity, topic) };
    });
  }

  /** Tables, triggers and conditions are for operators; clients get names and shapes. */
  async function contractFor(request: IncomingMessage, context: RequestContext): Promise<ContractEvent[]> {
    const operator = isOperator(request, context);
    if (!operator) await identify(request, context);
    const events = await readContract(pool, roomPrefix);
    return operator ? events : events.map((event) => withoutSql(event, roomPrefix));
  }
}

/** By event, the calls of relay.publish() that made it. */
async function readCalls(pool: pg.Pool): Promise<Record<string, string[]>> {
  const { rows } = await pool.query<{ calls: Record<string, string[]> | null }>(
    `select jsonb_object_agg(event, calls) as calls
       from (select event, jsonb_agg(call order by operation, on_table::text) as calls from relay.contract group by event) as by_event`,
  );
  return rows[0]!.calls ?? {};
}

function askedIn({ url }: IncomingMessage): URLSearchParams {
  return new URL(url ?? '/', 'http://relay').searchParams;
}

function wantedIn(request: IncomingMessage): Wanted {
  const asked = askedIn(request);
  const id = asked.get('id');
  if (id !== null && !/^\d{1,18}$/.test(id)) {
    throw new RefusedRequest(400, 'id_invalid', 'The id of an event is expected, a number.');
  }
  return { event: asked.get('event') ?? '', id, position: asked.get('position') };
}

function withoutSql(event: ContractEvent, roomPrefix: string): ContractEvent {
  const enabled = event.recorded.every((recording) => recording.enabled);
  const recorded = [{ table: null, trigger: null, when: '', audience: null, enabled }];
  return { ...event, room: `${roomPrefix}{account}`, recorded };
}

function demoRoutes(pool: pg.Pool, jwt: Settings['jwt']): Routes {
  const guarded =
    (route: Route): Route =>
    (request, context) => {
      if (isLocal(request)) return route(request, context);
      const sentence = 'The demonstration answers its own page only, in a browser on the machine it runs on.';
      throw new RefusedRequest(403, 'demo_is_local', sentence);
    };
  return {
    'POST /demo/tokens': guarded(async (request) => {
      await readJson(request, MAX_BODY_BYTES);
      const { rows } = await pool.query<{ id: string; name: string }>(
        'select id::text as id, name from public.accounts order by accounts.id limit 2',
      );
      const accounts = rows.map(async ({ id, name }) => ({ id, name, people: await peopleOf(id, jwt) }));
      return { status: 200, body: { accounts: await Promise.all(accounts), expiresIn: TOKEN_SECONDS } };
    }),
    'GET /demo/clinic': guarded(async (request, context) => {
      return { status: 200, body: await loadClinic(pool, await identify(request, context)) };
    }),
    'POST /demo/act': guarded(async (request, context) => {
      const identity = await identify(request, context);
      const wish = parseWish(await readJson(request, MAX_BODY_BYTES));
      return { status: 200, body: await act(pool, identity, wish) };
    }),
  };
}

/** Whose token the request brings. */
async function identify({ headers }: IncomingMessage, { subscribers }: RequestContext): Promise<Identity> {
  return subscribers.identify(bearerFrom({ auth: {}, headers }));
}

/** Who may look at a sample account, each with a token; null: with a key set, tokens come from elsewhere. */
async function peopleOf(accountId: string, jwt: Settings['jwt']) {
  const { secret, accountClaim: claim, topicsClaim, issuer, audience } = jwt;
  const common = { accountId, expiresIn: TOKEN_SECONDS, claim, topicsClaim, issuer, audience };
  const people = PEOPLE.map(async ({ id, name, topics }) => ({
    id,
    name,
    token: secret === null ? null : await signToken({ ...common, secret, subject: id, topics }),
  }));
  return Promise.all(people);
}

const wish = z.object({ action: z.string(), id: z.int32().nullable().default(null) });

function parseWish(body: unknown): Parameters<typeof act>[2] {
  const { success, data } = wish.safeParse(body);
  if (!success || !isActionName(data.action)) {
    const sentence = 'The body names no action of the sample, or an id that is not a whole number.';
    throw new RefusedRequest(400, 'action_unknown', sentence);
  }
  return { action: data.action, id: data.id };
}
