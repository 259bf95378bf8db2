-- Reading the contract.
--
--   relay.contract               view: one row per event and what makes it
--   relay.preview(event, new)    what would be sent for a row:
--                                select * from relay.preview('doctors.created', (select d from public.doctors as d where id = 123))
--   relay.preview(event, new, old)   the same for an UPDATE
--   relay.publish_call(catalogue)    the call that makes an event, and relay.quote_text() for its texts
--   and the parts of the view:
--   relay.fires_when(catalogue)  the trigger in words
--   relay.schema_of(catalogue)   JSON Schema of the payload: the given one, or what the table's columns tell
--   relay.schema_of_row(table), relay.schema_of_column(table, column), relay.schema_of_type(type, may_be_null)
--   relay.sample(schema)         a value that fits a JSON Schema
--
-- A sample comes from the schema and never from a row: the contract is shown to more people than the data is.
-- Columns of the view are only ever added at its end, so that what a DBA built on it stays.

create or replace function relay.fires_when(published relay.catalogue) returns text
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  select case
    when published.operation = 'EMIT' then 'an application calls relay.emit()'
    when published.operation = 'TRUNCATE' then 'TRUNCATE (every account is told to refetch)'
    else concat_ws(' ',
      case when published.fires_at = 'commit' then 'at commit, after' else 'after' end,
      published.operation,
      case published.level when 'row' then 'of a row' else 'of any number of rows' end,
      'when ' || nullif(btrim(regexp_replace(published.condition, '\s+', ' ', 'g')), ''))
  end
$$;
comment on function relay.fires_when(relay.catalogue) is 'Part of relay.contract: when an event is recorded, in words.';

-- Follows to_jsonb(): what it makes of each type. Domains are their base type, arrays their elements.
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
    -- JavaScript rounds what is larger than 2^53.
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
comment on function relay.schema_of_column(oid, name) is 'JSON Schema of a column as to_jsonb() shows it; null where there is no such column.';

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
comment on function relay.schema_of(relay.catalogue) is 'JSON Schema of an event''s payload: the published one; where there is none and the payload is the row or a column, what the table tells; otherwise {}, anything.';

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
comment on function relay.sample(jsonb) is 'A value that fits a JSON Schema, made up; its examples, constants and defaults are used where it has them.';

create or replace function relay.quote_text(text text) returns text
language sql immutable strict
set search_path = pg_catalog, pg_temp
as $$ select case when text !~ '[''\\]' or text ~ '[$]' then quote_literal(text) else concat('$', '$', text, '$', '$') end $$;
comment on function relay.quote_text(text) is 'A text as a literal; within $$ where it has quotes.';

create or replace function relay.publish_call(published relay.catalogue) returns text
language sql stable
set search_path = pg_catalog, pg_temp set quote_all_identifiers = off
as $$
  select format(E'select relay.publish(\n%s);', string_agg(format('  %s => %s', name, value), E',\n' order by place))
    from (values
      (1, 'event', quote_literal(published.event)),
      (2, 'on_table', quote_literal(coalesce(published.table_name, published.on_table::text))),
      (3, 'operation', case when published.operation <> 'EMIT' then quote_literal(published.operation) end),
      (4, 'level', case when published.level = 'statement' and published.operation <> 'TRUNCATE' then '''statement''' end),
      (5, 'at', case when published.fires_at = 'commit' then '''commit''' end),
      (6, 'key', quote_literal(published.key)),
      (7, 'condition', relay.quote_text(published.condition)),
      (8, 'condition_in', quote_literal(published.condition_in)),
      (9, 'account', relay.quote_text(published.account)),
      (10, 'payload', relay.quote_text(published.payload)),
      (11, 'audience', relay.quote_text(published.audience)),
      (12, 'description', relay.quote_text(published.description)),
      (13, 'payload_schema', relay.quote_text(published.payload_schema::text))
    ) as argument(place, name, value)
   where value is not null
$$;
comment on function relay.publish_call(relay.catalogue) is 'The call of relay.publish() that makes a published event.';

-- What a JSON Schema column is worth depends on its reader; recado contract makes types of it.
-- A room's prefix is a setting of the relay (ROOM_PREFIX). Where it is not the default, let the database know:
-- alter database ... set relay.room_prefix = '...'.
create or replace view relay.contract as
select c.event,
       coalesce(nullif(current_setting('relay.room_prefix', true), ''), 'orders.account.')
         || format('{%s}', coalesce(btrim(substring(c.account from '^\s*(?:new|old)\.("[^"]+"|[a-z0-9_$]+)\s*$'), '"'), 'account')) as room,
       c.on_table,
       relay.fires_when(c) as fires_when,
       case when c.on_table is not null then relay.trigger_name(c) end as trigger,
       not c.suspended and (c.on_table is null or coalesce(t.tgenabled in ('O', 'A'), false)) as enabled,
       c.description,
       schema.of_payload as payload_schema,
       relay.sample(schema.of_payload) as sample,
       c.operation,
       c.account,
       c.payload,
       c.suspended,
       c.published_by,
       c.published_at,
       relay.publish_call(c) as call,
       c.audience
  from relay.catalogue as c
  left join pg_catalog.pg_trigger as t
    on t.tgrelid = c.on_table and t.tgname = relay.trigger_name(c)::name
 cross join lateral (
   select case when c.operation <> 'TRUNCATE' then relay.schema_of(c) end as of_payload offset 0) as schema
 order by c.event, c.operation, c.table_name;
-- The view of earlier versions called them.
drop function if exists relay.trigger_name(text, text);
drop function if exists relay.capture_name(text, text);
comment on view relay.contract is 'Every event clients may hear: its room, what makes it, and what it carries. relay.check() says what is off.';
comment on column relay.contract.room is 'Who hears it: {...} is the column that holds the account, or {account} where it takes an expression (see account).';
comment on column relay.contract.trigger is 'Trigger on on_table of this name, and function in relay_capture of the same without the !; null: relay.emit().';
comment on column relay.contract.audience is 'Whose topics hear it, as SQL over the row; null: everybody of the account.';
comment on column relay.contract.call is 'The call of relay.publish() that makes this event, to be kept in a file or changed.';
comment on column relay.contract.enabled is 'Whether it is recorded now: the trigger exists and is not switched off, the event is not suspended.';
comment on column relay.contract.payload_schema is 'JSON Schema of what clients receive; {} is anything. Where none was published it comes from the table''s columns.';
comment on column relay.contract.sample is 'Made up from the schema; relay.preview() shows what a real row gives.';
comment on column relay.contract.payload is 'What clients receive, as SQL over the row.';

-- Runs the event's expressions with the rights of who calls, so call it as a role that trusts who published it.
-- unnest() instead of a subquery: new and old stay rows of their table, and can be given to its functions.
-- Of earlier versions, which did not tell the audience.
do $$
begin
  if exists (select from pg_proc as p
              where p.oid = to_regprocedure('relay.preview(text, anyelement, anyelement)') and 'audience' <> all (p.proargnames)) then
    drop function relay.preview(text, anyelement, anyelement);
  end if;
end
$$;
create or replace function relay.preview(
  event text,
  new anyelement,
  old anyelement default null,
  out operation text,
  out fires boolean,
  out account text,
  out payload jsonb,
  out audience text[]
) returns setof record
language plpgsql volatile
set search_path = pg_catalog, pg_temp set timezone = 'UTC'
as $$
#variable_conflict use_column
declare
  published relay.catalogue;
  part record;
  tables text;
  one text;
  row_type regtype := pg_typeof(preview.new);
begin
  if not exists (select from relay.catalogue as c where c.event = preview.event) then
    raise exception 'relay.preview(%): no such event', quote_nullable(preview.event)
      using errcode = 'undefined_object', hint = 'select event from relay.contract lists them.';
  end if;
  select string_agg(distinct c.on_table::text, ' or '), min(c.on_table::text) into tables, one
    from relay.catalogue as c join pg_class as t on t.oid = c.on_table
   where c.event = preview.event
  having not coalesce(bool_or(t.reltype::regtype = row_type), true);
  if tables is not null then
    raise exception 'relay.preview(%): received a row of type %, expected one of %', quote_literal(preview.event), row_type, tables
      using errcode = 'datatype_mismatch', hint = format('select * from relay.preview(%L, (select t from %s as t limit 1))', preview.event, one);
  end if;
  for published in
    select c.* from relay.catalogue as c join pg_class as t on t.oid = c.on_table
     where c.event = preview.event and c.operation in ('INSERT', 'UPDATE', 'DELETE') and t.reltype::regtype = row_type
     order by c.operation, c.number
  loop
    for part in
      select * from (values ('condition', published.condition, 'boolean'), ('account', published.account, case when published.several_accounts then 'text[]' else 'text' end), ('payload', published.payload, 'jsonb'), ('audience', published.audience, 'text[]')) as p(name, text, type)
       where text is not null
    loop
      perform relay.try_expression(part.name, part.text, part.type, published.on_table, published.operation);
    end loop;
    for operation, fires, account, payload, audience in execute format(
      'select %1$L, coalesce((%2$s)::boolean, false), chosen.account, coalesce((%4$s)::jsonb, ''null''), %5$s
         from unnest(array[$1]) as new cross join unnest(array[$2]) as old cross join unnest(%3$s) as chosen(account)',
      published.operation, coalesce(published.condition, 'true'),
      format(case when published.several_accounts then 'coalesce(%s, array[null])' else 'array[%s]' end, relay.accounts_of(published)), published.payload,
      coalesce(relay.topics_of(published.audience), 'null::text[]'))
      -- A deleted row is old; it may be given as either.
      using coalesce(preview.new, preview.old),
            case when published.operation = 'DELETE' then coalesce(preview.new, preview.old) else coalesce(preview.old, preview.new) end
    loop
      -- Nobody knows what an UPDATE has changed of which only one row is given.
      fires := case when published.operation = 'UPDATE' and published.condition is not null and (preview.new is null or preview.old is null) then null
                    else fires and account is not null and audience is distinct from '{}' end;
      return next;
    end loop;
  end loop;
end
$$;
comment on function relay.preview(text, anyelement, anyelement) is 'What would be sent for a row, one line per operation that makes the event: select * from relay.preview(''doctors.created'', (select d from public.doctors as d where id = 123)). For an UPDATE give the new and the old row; without the old one, fires is null. audience: whose topics hear it; null is everybody of the account, {} nobody. Runs the event''s expressions with your rights.';
