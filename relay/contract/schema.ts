// JSON Schemas of the contract. A DBA may have written anything, so every keyword is checked before it is used.

export interface JsonSchema {
  readonly [keyword: string]: unknown;
}

export function isSchema(value: unknown): value is JsonSchema {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

/** `true` and what is no schema are the schema that allows anything. */
export function schemaFrom(value: unknown): JsonSchema {
  return isSchema(value) ? value : {};
}

/** The schemas of a keyword that lists them: anyOf, oneOf, allOf, prefixItems. */
export function schemasOf(schema: JsonSchema, keyword: string): JsonSchema[] {
  const value = schema[keyword];
  return Array.isArray(value) ? value.map(schemaFrom) : [];
}

export function typesOf({ type }: JsonSchema): string[] {
  const types = Array.isArray(type) ? type : [type];
  return types.filter((name): name is string => typeof name === 'string');
}

/** Values that are allowed, where the schema lists them. */
export function valuesOf(schema: JsonSchema): unknown[] | null {
  if ('const' in schema) return [schema.const];
  return Array.isArray(schema.enum) ? schema.enum : null;
}

export interface Property {
  readonly name: string;
  readonly schema: JsonSchema;
  readonly required: boolean;
}

/** In the order of `required`, then the others: jsonb has sorted the properties by the length of their names. */
export function propertiesOf(schema: JsonSchema): Property[] {
  const required: unknown[] = Array.isArray(schema.required) ? schema.required : [];
  const properties = Object.entries(schemaFrom(schema.properties)).map(([name, value]) => ({
    name,
    schema: schemaFrom(value),
    required: required.includes(name),
  }));
  const place = ({ name, required: must }: Property) => (must ? required.indexOf(name) : required.length);
  return properties.sort((a, b) => place(a) - place(b));
}

/** The schema that a `$ref` within `root` names, or the schema itself. What is not found may be anything. */
export function resolve(schema: JsonSchema, root: JsonSchema): JsonSchema {
  const { $ref } = schema;
  if (typeof $ref !== 'string') return schema;
  if (!$ref.startsWith('#')) return {};
  const steps = $ref
    .slice(1)
    .split('/')
    .slice(1)
    .map((step) => step.replaceAll('~1', '/').replaceAll('~0', '~'));
  let found: unknown = root;
  for (const step of steps) found = isSchema(found) ? found[step] : undefined;
  return schemaFrom(found);
}
