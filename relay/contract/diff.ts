// What would break a client: an event or a field that is gone, may be missing, or may be of another type; an event that
// no longer everybody of the account hears.
import { RecadoError } from '../errors.ts';
import type { ContractEvent } from './read.ts';
import {
  isSchema,
  type JsonSchema,
  type Property,
  propertiesOf,
  resolve,
  schemaFrom,
  schemasOf,
  typesOf,
  valuesOf,
} from './schema.ts';

/** An event as far as clients depend on it. */
type Promised = Pick<ContractEvent, 'event' | 'payload' | 'audience'>;

/** A sentence per break; new events and new fields are none. */
export function breaksOf(before: readonly Promised[], now: readonly Promised[]): string[] {
  return before.flatMap((was) => {
    const is = now.find(({ event }) => event === was.event);
    if (!is) return [`${was.event} is gone.`];
    const narrowed = was.audience === 'account' && is.audience === 'topics';
    return [
      ...(narrowed
        ? [
            `${was.event}: everybody of the account heard it, now only those whose token has one of its topics.`,
          ]
        : []),
      ...compare(new Shape(was.payload), new Shape(is.payload), was.event, 'payload'),
    ];
  });
}

/**
 * What `recado contract --format json` printed some time ago.
 * @throws RecadoError `contract_unreadable`
 */
export function parseContract(text: string, file: string): Promised[] {
  const refuse = (why: string) =>
    new RecadoError(
      'contract_unreadable',
      `${file} is no contract (${why}): give a file that "recado contract --format json" has printed.`,
    );
  let document: unknown;
  try {
    document = JSON.parse(text);
  } catch (error) {
    throw refuse(error instanceof Error ? error.message : 'not JSON');
  }
  const events = isSchema(document) ? document.events : undefined;
  if (!Array.isArray(events)) throw refuse('it has no list of events');
  return events.map((event: unknown) => {
    if (!isSchema(event) || typeof event.event !== 'string') throw refuse('an event has no name');
    const audience = event.audience === 'topics' ? 'topics' : 'account';
    return { event: event.event, payload: schemaFrom(event.payload), audience };
  });
}

/** A schema with its references and alternatives taken together. */
class Shape {
  /** null: anything. */
  readonly types: ReadonlySet<string> | null;
  readonly properties: readonly Property[];
  readonly items: JsonSchema;
  readonly root: JsonSchema;

  constructor(schema: JsonSchema, root = schema) {
    const variants = variantsOf(schema, root, 0);
    const types = variants.map(kindsOf);
    this.types = types.some((kinds) => kinds === null)
      ? null
      : new Set(types.flatMap((kinds) => kinds ?? []));
    this.properties = together(variants.filter((variant) => kindsOf(variant)?.includes('object') ?? true));
    this.items = schemaFrom(variants.find((variant) => variant.items !== undefined)?.items);
    this.root = root;
  }
}

const DEEPEST = 20;

function variantsOf(schema: JsonSchema, root: JsonSchema, depth: number): JsonSchema[] {
  if (depth > DEEPEST) return [{}];
  const target = resolve(schema, root);
  const alternatives = [...schemasOf(target, 'anyOf'), ...schemasOf(target, 'oneOf')];
  if (alternatives.length > 0) return alternatives.flatMap((part) => variantsOf(part, root, depth + 1));
  const parts = schemasOf(target, 'allOf').flatMap((part) => variantsOf(part, root, depth + 1));
  if (parts.length === 0) return [target];
  // All of them hold at once.
  const all = [target, ...parts];
  const properties: JsonSchema = Object.assign({}, ...all.map((part) => schemaFrom(part.properties)));
  return [
    {
      ...Object.assign({}, ...all),
      properties,
      required: all.flatMap((part) => (Array.isArray(part.required) ? part.required : [])),
    },
  ];
}

/** A field of any variant; required where every variant requires it. */
function together(variants: readonly JsonSchema[]): Property[] {
  const found = new Map<string, Property[]>();
  for (const property of variants.flatMap(propertiesOf)) {
    found.set(property.name, [...(found.get(property.name) ?? []), property]);
  }
  return [...found].map(([name, same]) => ({
    name,
    schema: same.length === 1 ? same[0]!.schema : { anyOf: same.map(({ schema }) => schema) },
    required: same.length === variants.length && same.every(({ required }) => required),
  }));
}

/** null: anything. */
function kindsOf(schema: JsonSchema): string[] | null {
  const values = valuesOf(schema);
  if (values) return values.map(kindOf);
  const types = typesOf(schema);
  if (types.length > 0) return types;
  return schema.properties === undefined ? null : ['object'];
}

function kindOf(value: unknown): string {
  if (value === null) return 'null';
  if (Array.isArray(value)) return 'array';
  return Number.isInteger(value) ? 'integer' : typeof value;
}

function compare(was: Shape, is: Shape, event: string, path: string, depth = 0): string[] {
  if (was.types === null || depth > DEEPEST) return [];
  const allowed = was.types;
  const added =
    is.types &&
    [...is.types].filter((type) => !allowed.has(type) && !(type === 'integer' && allowed.has('number')));
  if (added === null || added.length > 0) {
    return [`${event}: ${path} was ${list(was.types)} and is ${is.types ? list(is.types) : 'anything'}.`];
  }
  const fields = was.properties.flatMap(({ name, schema, required }) => {
    const field = `${path}.${name}`;
    const now = is.properties.find((property) => property.name === name);
    if (!now) return is.types?.has('object') ? [`${event}: ${field} is gone.`] : [];
    const missing = required && !now.required ? [`${event}: ${field} may be missing now.`] : [];
    const inside = compare(
      new Shape(schema, was.root),
      new Shape(now.schema, is.root),
      event,
      field,
      depth + 1,
    );
    return [...missing, ...inside];
  });
  const items = is.types?.has('array')
    ? compare(new Shape(was.items, was.root), new Shape(is.items, is.root), event, `${path}[]`, depth + 1)
    : [];
  return [...fields, ...items];
}

function list(types: ReadonlySet<string>): string {
  return [...types].join(' or ');
}
