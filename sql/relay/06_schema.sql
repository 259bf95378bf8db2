-- Describes payloads as JSON Schema.
--
--   relay.schema_of(catalogue)   of an event: the published one, or one derived from the table's columns
--   relay.schema_of_row(table), relay.schema_of_column(table, column), relay.schema_of_type(type, may_be_null)
--   relay.sample(schema)         a value that fits a JSON Schema
--
-- A sample comes from the schema and never from a row: more people may see the contract than the data.

-- Follows what to_jsonb() makes of each type. A domain counts as its base type, an array by its elements.
create or replace function relay.schema_of_type(of_type oid, may_be_null boolean default false) returns jsonb
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
declare
  found pg_type;
  schema jsonb;
begin
  select * into found from pg_type as t where t.oid = of_type;
  while found.typtype = 'd' loop
    select * into found from pg_type as t where t.oid = found.typbasetype;
  end loop;
  schema := case
    when found.typname in ('json', 'jsonb') then '{}'
    when found.typname = 'bool' then '{"type": "boolean"}'
    when found.typname in ('int2', 'int4') then '{"type": "integer"}'
    -- JavaScript rounds numbers above 2^53.
    when found.typname = 'int8' then '{"type": "integer", "format": "int64"}'
    -- JSON has no NaN and no Infinity; Postgres writes them as text.
    when found.typname in ('float4', 'float8', 'numeric') then '{"type": ["number", "string"]}'
    when found.typname = 'uuid' then '{"type": "string", "format": "uuid"}'
    when found.typname = 'date' then '{"type": "string", "format": "date"}'
    when found.typname = 'timestamptz' then '{"type": "string", "format": "date-time"}'
    when found.typtype = 'e' then jsonb_build_object('enum', (
      select jsonb_agg(e.enumlabel order by e.enumsortorder) from pg_enum as e where e.enumtypid = found.oid))
    when found.typtype = 'c' then relay.schema_of_row(found.typrelid)
    when found.typcategory = 'A' and found.typelem <> 0 then
      jsonb_build_object('type', 'array', 'items', relay.schema_of_type(found.typelem, true))
    else '{"type": "string"}'
  end;
  return case
    when not may_be_null or schema = '{}' then schema
    when schema ? 'type' then jsonb_set(schema, '{type}', (schema -> 'type') || '["null"]'::jsonb)
    else jsonb_set(schema, '{enum}', (schema -> 'enum') || 'null')
  end;
end
$$;
comment on function relay.schema_of_type(oid, boolean) is 'JSON Schema of what to_jsonb() makes of a value of this type.';

create or replace function relay.schema_of_column(on_table oid, column_name name) returns jsonb
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  -- A trigger sees no value in a virtual generated column (Postgres 18).
  select relay.schema_of_type(a.atttypid, not a.attnotnull or a.attgenerated = 'v')
    from pg_attribute as a
   where a.attrelid = on_table and a.attname = column_name and a.attnum > 0 and not a.attisdropped
$$;
comment on function relay.schema_of_column(oid, name) is 'JSON Schema of a column as to_jsonb() shows it; null if there is no such column.';

create or replace function relay.schema_of_row(on_table oid) returns jsonb
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  select jsonb_build_object(
           'type', 'object',
           'required', coalesce(jsonb_agg(a.attname order by a.attnum), '[]'),
           'properties', coalesce(jsonb_object_agg(a.attname, relay.schema_of_column(on_table, a.attname)), '{}'))
    from pg_attribute as a
   where a.attrelid = on_table and a.attnum > 0 and not a.attisdropped
$$;
comment on function relay.schema_of_row(oid) is 'JSON Schema of a row of a table as to_jsonb() shows it.';

create or replace function relay.schema_of(published relay.catalogue) returns jsonb
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
declare
  found text[];
begin
  if published.payload_schema is not null then
    return published.payload_schema;
  end if;
  found := regexp_match(published.payload, '^\s*to_jsonb\s*\(\s*(?:new|old)\s*(?:\.\s*(?:"((?:[^"]|"")+)"|([a-z_][a-z0-9_$]*))\s*)?\)\s*$', 'i');
  if found is null then
    return '{}'::jsonb;
  end if;
  if found[1] is null and found[2] is null then
    return relay.schema_of_row(published.on_table);
  end if;
  return coalesce(relay.schema_of_column(published.on_table, coalesce(replace(found[1], '""', '"'), lower(found[2]))), '{}');
end
$$;
comment on function relay.schema_of(relay.catalogue) is 'JSON Schema of an event''s payload: the published one; or, if the payload is the row or a column, one derived from the table; otherwise {}, which allows anything.';

create or replace function relay.sample(schema jsonb) returns jsonb
language plpgsql immutable
set search_path = pg_catalog, pg_temp
as $$
declare
  kind text := case jsonb_typeof(schema -> 'type') when 'array' then schema -> 'type' ->> 0 else schema ->> 'type' end;
begin
  return case
    when schema -> 'examples' -> 0 is not null then schema -> 'examples' -> 0
    when schema -> 'const' is not null then schema -> 'const'
    when schema -> 'default' is not null then schema -> 'default'
    when schema -> 'enum' -> 0 is not null then schema -> 'enum' -> 0
    when schema -> 'anyOf' -> 0 is not null then relay.sample(schema -> 'anyOf' -> 0)
    when schema -> 'oneOf' -> 0 is not null then relay.sample(schema -> 'oneOf' -> 0)
    when schema -> 'allOf' -> 0 is not null and kind is null then (
      select relay.sample(jsonb_build_object('type', 'object', 'properties',
        (select jsonb_object_agg(property.key, property.value)
           from jsonb_array_elements(schema -> 'allOf') as part, jsonb_each(part -> 'properties') as property))))
    when kind = 'object' or schema ? 'properties' then
      coalesce((select jsonb_object_agg(name, 'null'::jsonb) from jsonb_array_elements_text(schema -> 'required') as name), '{}')
      || coalesce((select jsonb_object_agg(property.key, relay.sample(property.value)) from jsonb_each(schema -> 'properties') as property), '{}')
    when kind = 'array' then case
      when jsonb_typeof(schema -> 'items') = 'object' and schema -> 'items' <> '{}' then jsonb_build_array(relay.sample(schema -> 'items'))
      else '[]' end
    when kind = 'integer' then coalesce(schema -> 'minimum', '123')
    when kind = 'number' then coalesce(schema -> 'minimum', '12.5')
    when kind = 'boolean' then 'true'
    when kind = 'string' then to_jsonb(case schema ->> 'format'
      when 'date-time' then '2025-01-23T09:15:00.000Z'
      when 'date' then '2025-01-23'
      when 'uuid' then '0b9d3f2e-5c1a-4e8b-9f57-2d6a1c7e4b30'
      when 'email' then 'ana@example.com'
      when 'uri' then 'https://example.com/'
      else 'text' end)
    else 'null'
  end;
end
$$;
comment on function relay.sample(jsonb) is 'An invented value that fits a JSON Schema. It uses the schema''s examples, constants and defaults, if there are any.';
