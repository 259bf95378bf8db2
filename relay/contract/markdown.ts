// The contract for people: a section per event.
import type { ContractEvent } from './read.ts';
import { OWN_EVENTS } from './read.ts';
import { type JsonSchema, propertiesOf, schemaFrom, schemasOf, typesOf, valuesOf } from './schema.ts';

export function toMarkdown(contract: readonly ContractEvent[]): string {
  const sections = contract.map((event) => {
    const recorded = event.recorded.map(
      ({ table, when, enabled }) =>
        `- ${table === null ? when : `\`${table}\`: ${code(when)}`}${enabled ? '' : ' (switched off)'}`,
    );
    return `${heading(event.event, event.description)}Room: \`${event.room}\`${audienceOf(event)}. Recorded:\n\n${recorded.join('\n')}\n\n${payload(event.payload, event.sample)}`;
  });
  const own = OWN_EVENTS.map(
    (event) => heading(event.event, event.description) + payload(event.payload, event.sample),
  );
  return `# Events\n\n${sections.join('\n')}\n# Events of the relay itself\n\n${own.join('\n')}`;
}

function audienceOf({ audience, recorded }: ContractEvent): string {
  if (audience === 'account') return '';
  const topics = new Set(recorded.flatMap((recording) => recording.audience ?? []));
  return `, for those whose token has one of the event's topics (${[...topics].map(code).join(' or ')})`;
}

function heading(event: string, description: string | null): string {
  return `## \`${event}\`\n\n${description === null ? '' : `${description}\n\n`}`;
}

function payload(schema: JsonSchema, sample: unknown): string {
  const fields = fieldsOf(schema, '');
  const rows = fields.map(({ path, type, said }) => `| \`${path}\` | ${cell(type)} | ${cell(said)} |`);
  const table =
    rows.length === 0
      ? `Payload: ${typeText(schema)}.\n`
      : `| Field | Type | Meaning |\n|---|---|---|\n${rows.join('\n')}\n`;
  return `${table}\n\`\`\`json\n${JSON.stringify(sample, null, 2)}\n\`\`\`\n`;
}

interface Field {
  path: string;
  type: string;
  said: string;
}

function fieldsOf(schema: JsonSchema, prefix: string, depth = 0): Field[] {
  if (depth > 6) return [];
  const own = propertiesOf(schema).flatMap(({ name, schema: property, required }) => {
    const path = `${prefix}${name}`;
    const { description } = property;
    const said = [required ? '' : 'may be missing', typeof description === 'string' ? description : ''];
    return [
      { path, type: typeText(property), said: said.filter((part) => part !== '').join('; ') },
      ...fieldsOf(property, `${path}.`, depth + 1),
      ...fieldsOf(schemaFrom(property.items), `${path}[].`, depth + 1),
    ];
  });
  const variants = ['anyOf', 'oneOf', 'allOf'].flatMap((keyword) => schemasOf(schema, keyword));
  return [...own, ...variants.flatMap((variant) => fieldsOf(variant, prefix, depth + 1))];
}

function typeText(schema: JsonSchema): string {
  const values = valuesOf(schema);
  if (values) return values.map((value) => code(JSON.stringify(value))).join(', ');
  const { format } = schema;
  const types = typesOf(schema).map((type) =>
    type === 'string' && typeof format === 'string' ? format : type,
  );
  return types.length === 0 ? 'anything' : types.join(' or ');
}

function code(text: string): string {
  return `\`${text.replaceAll('`', "'")}\``;
}

function cell(text: string): string {
  return text.replaceAll('|', '\\|');
}
