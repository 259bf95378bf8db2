// A database whose events have audiences, with an account for each test of a file.
import { once } from 'node:events';
import { type IncomingMessage, request } from 'node:http';
import type { SignOptions } from '../../auth/sign.ts';
import type { Relay } from '../../server/relay.ts';
import { useNodes } from '../nodes.ts';
import { Stream } from '../transport/stream.ts';
import { type Client, type Database, freshDatabase, token, until } from '../world.ts';

export let database: Database;
/** Of the test that runs. */
export let account: string;
let tests = 0;
beforeAll(async () => {
  database = await freshDatabase();
  await database.query(
    "select relay.publish(event => 'chat.message'), relay.publish(event => 'chat.closed')",
  );
});
beforeEach(() => {
  tests += 1;
  account = `acc-${tests}`;
});
afterAll(() => database.close());
export const { node, client, ends } = useNodes(() => database);

export const tokenOf = (subject: string, topics: readonly string[] = [], more: Partial<SignOptions> = {}) =>
  token(account, { subject, topics, ...more });

/** As relay.publish() records it; null: everybody. */
export async function emit(audience: readonly string[] | null, payload: unknown, event = 'chat.message') {
  await database.query(
    'insert into relay.events (account_id, event, payload, audience) values ($1, $2, $3, $4)',
    [account, event, JSON.stringify(payload), audience],
  );
}

/** Several in one transaction, and so in one batch. */
export async function emitTogether(
  events: readonly (readonly [audience: readonly string[] | null, payload: unknown])[],
) {
  await database.query(
    `insert into relay.events (account_id, event, payload, audience)
     select $1, 'chat.message', e->1, case when e->0 <> 'null' then array(select jsonb_array_elements_text(e->0)) end
       from jsonb_array_elements($2::jsonb) as e`,
    [account, JSON.stringify(events)],
  );
}

export async function stream(
  relay: Pick<Relay, 'port'>,
  bearer: string,
  { query = '', position = '' }: { query?: string; position?: string } = {},
): Promise<Stream> {
  const asked = request({
    ...{ host: '127.0.0.1', port: relay.port, path: `/events${query}` },
    headers: { authorization: `Bearer ${bearer}`, ...(position && { 'last-event-id': position }) },
  });
  asked.end();
  const [response] = (await once(asked, 'response')) as [IncomingMessage];
  const made = new Stream(response);
  ends.push(() => made.close());
  await until('the stream is told where it is', () =>
    made.heard.some(({ event }) => event === 'relay:ready' || event === 'relay:resync'),
  );
  return made;
}

export const inSession = ({ socket }: Client, given: string) =>
  socket.emitWithAck('auth:refresh', given) as Promise<unknown>;

/** Hears nothing but what is for everybody and for it. */
export async function expectHeard(
  who: Pick<Client, 'payloads'>,
  expected: readonly unknown[],
): Promise<void> {
  const last = JSON.stringify(expected.at(-1));
  await until(`hears ${last}, heard ${JSON.stringify(who.payloads)}`, () =>
    who.payloads.some((payload) => JSON.stringify(payload) === last),
  );
  expect(who.payloads).toEqual(expected);
}
