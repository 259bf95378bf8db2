// A relay and its Server-Sent Events, for all tests of a file.
import { once } from 'node:events';
import { type IncomingMessage, request } from 'node:http';
import type { Relay } from '../../server/relay.ts';
import { type Database, freshDatabase, startNode, token, until } from '../world.ts';
import { Stream } from './stream.ts';

export let database: Database;
export let relay: Relay;
export const streams: Stream[] = [];

beforeAll(async () => {
  database = await freshDatabase();
  await database.query(`select relay.publish('note.added'), relay.publish('note.large')`);
  relay = await startNode(database.url);
  await relay.ready();
});
afterEach(() => {
  for (const stream of streams.splice(0)) stream.close();
});
afterAll(async () => {
  await relay.close();
  await database.close();
});

export interface Asking {
  token?: string;
  position?: string;
  headers?: Record<string, string>;
  method?: string;
  port?: number;
  query?: string;
}

export async function ask({
  token: bearer,
  position,
  headers,
  method = 'GET',
  port = relay.port,
  query = '',
}: Asking = {}): Promise<IncomingMessage> {
  const asked = request({
    host: '127.0.0.1',
    port,
    path: `/events${query}`,
    method,
    headers: {
      ...(bearer !== undefined && { authorization: `Bearer ${bearer}` }),
      ...(position !== undefined && { 'last-event-id': position }),
      ...headers,
    },
  });
  asked.end();
  const [response] = (await once(asked, 'response')) as [IncomingMessage];
  return response;
}

/** A stream that has been told where it is. */
export async function open(asking: Asking = {}): Promise<Stream> {
  const response = await ask({ token: await token(), ...asking });
  expect(response.statusCode).toBe(200);
  const stream = new Stream(response);
  streams.push(stream);
  await until('the stream is told where it is', () =>
    stream.heard.some(({ event }) => event.startsWith('relay:')),
  );
  return stream;
}

export async function refused(
  asking: Asking,
): Promise<{ status: number; code: string; response: IncomingMessage }> {
  const response = await ask(asking);
  let text = '';
  for await (const chunk of response.setEncoding('utf8')) text += chunk;
  return {
    status: response.statusCode!,
    code: (JSON.parse(text) as { error: { code: string } }).error.code,
    response,
  };
}

export const add = (payload: unknown, account = 'acc-1') =>
  database.query(`select relay.emit($1, 'note.added', $2)`, [account, JSON.stringify(payload)]);
