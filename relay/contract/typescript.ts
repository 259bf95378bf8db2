// The contract as TypeScript, for socket.io-client: Socket<ServerToClientEvents, ClientToServerEvents>.
import { version } from '../package.ts';
import { type ContractEvent, OWN_EVENTS } from './read.ts';
import {
  type JsonSchema,
  propertiesOf,
  resolve,
  schemaFrom,
  schemasOf,
  typesOf,
  valuesOf,
} from './schema.ts';

const FOR_TOPICS = " Sent to those whose token has one of the event's topics.";

export function toTypeScript(contract: readonly ContractEvent[]): string {
  const names = new Set(['Position', 'ServerToClientEvents', 'ClientToServerEvents', 'RefreshAnswer']);
  const events = [...contract, ...OWN_EVENTS].map((event) => ({
    ...event,
    name: nameOf(event.event, names),
  }));
  const types = events.map(
    ({ name, event, description, payload, ...more }) =>
      `${comment((description ?? `Payload of ${event}.`) + ('audience' in more && more.audience === 'topics' ? FOR_TOPICS : ''), '')}export type ${name} = ${typeFrom(payload, payload)};\n`,
  );
  const handlers = events.map(({ event, name }) => {
    // The position is its payload.
    const position = event === 'relay:position' ? '' : ', position: Position';
    return `  ${JSON.stringify(event)}: (payload: ${name}${position}) => void;\n`;
  });
  return `// Made by recado ${version}: recado contract --format typescript. Do not edit; make it again.

/** What a client has seen, for its next connection. Opaque. */
export type Position = string;

${types.join('\n')}
export interface ServerToClientEvents {
${handlers.join('')}}

export type RefreshAnswer = { ok: true; expiresAt: string } | { ok: false; code: string };

export interface ClientToServerEvents {
  /** Keeps the connection with a fresh token of the same account. */
  'auth:refresh': (token: string, answer: (answer: RefreshAnswer) => void) => void;
}
`;
}

/** doctors.deleted → DoctorsDeleted; another one that would be called so gets a number. */
function nameOf(event: string, taken: Set<string>): string {
  const words = event.split(/[^A-Za-z0-9]+/).filter((word) => word !== '');
  const name = words.map((word) => word[0]!.toUpperCase() + word.slice(1)).join('');
  let free = name;
  for (let number = 2; taken.has(free); number += 1) free = `${name}${number}`;
  taken.add(free);
  return free;
}

/** @param resolving schemas a `$ref` led to on the way here; one that leads to itself may be anything */
function typeFrom(
  schema: JsonSchema,
  root: JsonSchema,
  indent = '',
  resolving: readonly JsonSchema[] = [],
): string {
  if (schema.$ref !== undefined) {
    const target = resolve(schema, root);
    return resolving.includes(target) ? 'unknown' : typeFrom(target, root, indent, [...resolving, target]);
  }
  const inner = (part: JsonSchema) => typeFrom(part, root, indent, resolving);
  const values = valuesOf(schema);
  if (values) return union(values.map((value) => (isLiteral(value) ? JSON.stringify(value) : 'unknown')));
  const variants = [...schemasOf(schema, 'anyOf'), ...schemasOf(schema, 'oneOf')];
  if (variants.length > 0) return union(variants.map(inner));
  const parts = schemasOf(schema, 'allOf');
  const own = ownType(schema, root, indent, resolving);
  if (parts.length === 0) return own;
  const all = [...(own === 'unknown' ? [] : [own]), ...parts.map(inner)];
  return all.map((type) => (type.includes(' | ') ? `(${type})` : type)).join(' & ');
}

function ownType(
  schema: JsonSchema,
  root: JsonSchema,
  indent: string,
  resolving: readonly JsonSchema[],
): string {
  const types = typesOf(schema);
  if (types.length === 0) {
    if (schema.properties === undefined) return 'unknown';
    types.push('object');
  }
  return union(
    types.map((type) => {
      switch (type) {
        case 'string':
        case 'boolean':
        case 'null':
          return type;
        case 'integer':
        case 'number':
          return 'number';
        case 'array':
          return arrayType(schema, root, indent, resolving);
        case 'object':
          return objectType(schema, root, indent, resolving);
        default:
          return 'unknown';
      }
    }),
  );
}

function arrayType(
  schema: JsonSchema,
  root: JsonSchema,
  indent: string,
  resolving: readonly JsonSchema[],
): string {
  const item = typeFrom(schemaFrom(schema.items), root, indent, resolving);
  const first = schemasOf(schema, 'prefixItems').map((part) => typeFrom(part, root, indent, resolving));
  if (first.length > 0)
    return `[${[...first, ...(schema.items === false ? [] : [`...Array<${item}>`])].join(', ')}]`;
  return /^[A-Za-z]+$/.test(item) ? `${item}[]` : `Array<${item}>`;
}

const ROUNDED = 'JavaScript rounds it above 2^53.';

function objectType(
  schema: JsonSchema,
  root: JsonSchema,
  indent: string,
  resolving: readonly JsonSchema[],
): string {
  const properties = propertiesOf(schema);
  if (properties.length === 0) {
    const { additionalProperties } = schema;
    return `Record<string, ${typeFrom(schemaFrom(additionalProperties), root, indent, resolving)}>`;
  }
  const deeper = `${indent}  `;
  const lines = properties.map(({ name, schema: property, required }) => {
    const description = property.description ?? (property.format === 'int64' ? ROUNDED : undefined);
    const type = typeFrom(property, root, deeper, resolving);
    const key = /^[A-Za-z_$][\w$]*$/.test(name) ? name : JSON.stringify(name);
    const said = typeof description === 'string' ? comment(description, deeper) : '';
    return `${said}${deeper}${key}${required ? '' : '?'}: ${type};\n`;
  });
  return `{\n${lines.join('')}${indent}}`;
}

function union(types: string[]): string {
  const distinct = [...new Set(types)];
  return distinct.includes('unknown') ? 'unknown' : distinct.join(' | ') || 'never';
}

function isLiteral(value: unknown): boolean {
  return value === null || ['string', 'number', 'boolean'].includes(typeof value);
}

function comment(text: string, indent: string): string {
  return `${indent}/** ${text.replaceAll('*/', '*\\/').replaceAll(/\s+/g, ' ').trim()} */\n`;
}
