// The contract as AsyncAPI 3.0. The application it describes is the relay: it sends, clients receive.
import { version } from '../package.ts';
import { type ContractEvent, OWN_EVENTS, type OwnEvent } from './read.ts';
import type { JsonSchema } from './schema.ts';

export function toAsyncApi(contract: readonly ContractEvent[], roomPrefix: string): Record<string, unknown> {
  const events = [...contract, ...OWN_EVENTS];
  const channel = '#/channels/account';
  return {
    asyncapi: '3.0.0',
    info: {
      title: 'Recado',
      version,
      description:
        'Events of one account, sent when the transaction that made them has committed. Over Socket.IO each message is an event of this name with two arguments: the payload, and as a string the position of a client that has handled the event. Over GET /events (Server-Sent Events) the position is the id.',
    },
    defaultContentType: 'application/json',
    channels: {
      account: {
        address: `${roomPrefix}{account}`,
        title: 'The events of an account',
        description:
          "A Socket.IO room. Clients are put into that of their token. A message with the x-audience topics is sent to those whose token has one of the event's topics.",
        parameters: { account: { description: "The account, as the token's claim names it." } },
        messages: Object.fromEntries(
          events.map(({ event }) => [key(event), { $ref: `#/components/messages/${key(event)}` }]),
        ),
      },
    },
    operations: {
      sendToAccount: {
        action: 'send',
        channel: { $ref: channel },
        summary: 'Events of the account; those of one row in the order of their commits.',
        messages: events.map(({ event }) => ({ $ref: `${channel}/messages/${key(event)}` })),
      },
    },
    components: {
      messages: Object.fromEntries(events.map((event) => [key(event.event), toMessage(event)])),
      securitySchemes: { token: { type: 'http', scheme: 'bearer', bearerFormat: 'JWT' } },
    },
  };
}

function toMessage(event: ContractEvent | OwnEvent): Record<string, unknown> {
  return {
    name: event.event,
    title: event.event,
    ...(event.description !== null && { description: event.description }),
    payload: rebased(event.payload, event.event),
    examples: [{ name: 'sample', payload: event.sample }].filter(({ payload }) => isExample(payload)),
    ...('audience' in event && event.audience === 'topics' && { 'x-audience': event.audience }),
    ...('recorded' in event && { 'x-recorded': event.recorded }),
  };
}

/** AsyncAPI's examples of a payload are objects or nothing. */
function isExample(payload: unknown): boolean {
  return typeof payload === 'object' && payload !== null && !Array.isArray(payload);
}

/** References within a payload's schema are to the schema; here they are to the document. */
function rebased(schema: JsonSchema, event: string): unknown {
  const place = `#/components/messages/${key(event)}/payload`;
  const text = JSON.stringify(schema, (name, value: unknown) =>
    name === '$ref' && typeof value === 'string' && value.startsWith('#') ? place + value.slice(1) : value,
  );
  return JSON.parse(text);
}

/** Keys of AsyncAPI's maps know neither colons nor slashes. */
function key(event: string): string {
  return event.replaceAll(/[^A-Za-z0-9._-]/g, '_');
}
