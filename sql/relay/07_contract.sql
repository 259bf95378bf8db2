-- Reading the contract.
--
--   relay.contract               view: one row per event and what makes it
--   relay.preview(event, new)    what would be sent for a row:
--                                select * from relay.preview('doctors.created', (select d from public.doctors as d where id = 123))
--   relay.preview(event, new, old)   the same for an UPDATE
--   relay.publish_call(catalogue)    the call that makes an event, and relay.quote_text() for its texts
--   and the parts of the view:
--   relay.fires_when(catalogue)  the trigger in words
--   relay.schema_of(catalogue), relay.sample(schema)   see 06_schema.sql
--
-- New columns of the view only go to its end, so that views built on it keep working.

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

create or replace function relay.quote_text(text text) returns text
language sql immutable strict
set search_path = pg_catalog, pg_temp
as $$ select case when text !~ '[''\\]' or text ~ '[$]' then quote_literal(text) else concat('$', '$', text, '$', '$') end $$;
comment on function relay.quote_text(text) is 'A text as a literal; within $$ if it has quotes.';

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

-- The room's prefix is a setting of the relay (ROOM_PREFIX). If it is not the default, set it here too:
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
comment on view relay.contract is 'Every event clients may hear: its room, what makes it, and what it carries. relay.check() lists problems.';
comment on column relay.contract.room is 'Who hears it: {...} is the column that holds the account, or {account} if it is an expression (see account).';
comment on column relay.contract.trigger is 'Name of the trigger on on_table; its function in relay_capture has the same name without the !. Null: relay.emit().';
comment on column relay.contract.audience is 'Topics whose holders hear it, as SQL over the row; null: everybody of the account.';
comment on column relay.contract.call is 'The call of relay.publish() that makes this event, to be kept in a file or changed.';
comment on column relay.contract.enabled is 'Whether it is recorded now: the trigger exists and is not switched off, the event is not suspended.';
comment on column relay.contract.payload_schema is 'JSON Schema of what clients receive; {} allows anything. If none was published, it is derived from the table''s columns.';
comment on column relay.contract.sample is 'Invented from the schema; relay.preview() shows what a real row gives.';
comment on column relay.contract.payload is 'What clients receive, as SQL over the row.';

-- Runs the event's expressions with the caller's rights, so the caller must trust the publisher.
-- unnest() instead of a subquery keeps new and old rows of their table, so they can be passed to its functions.
-- Drops preview() of earlier versions, which did not return the audience.
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
      -- A deleted row is `old`, but may be given as either.
      using coalesce(preview.new, preview.old),
            case when published.operation = 'DELETE' then coalesce(preview.new, preview.old) else coalesce(preview.old, preview.new) end
    loop
      -- With only one row of an UPDATE, its changes are unknown.
      fires := case when published.operation = 'UPDATE' and published.condition is not null and (preview.new is null or preview.old is null) then null
                    else fires and account is not null and audience is distinct from '{}' end;
      return next;
    end loop;
  end loop;
end
$$;
comment on function relay.preview(text, anyelement, anyelement) is 'What would be sent for a row, one line per operation that makes the event: select * from relay.preview(''doctors.created'', (select d from public.doctors as d where id = 123)). For an UPDATE give the new and the old row; without the old one, fires is null. audience: whose topics hear it; null is everybody of the account, {} nobody. Runs the event''s expressions with your rights.';
