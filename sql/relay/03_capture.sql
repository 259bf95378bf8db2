-- What a published event does when its trigger fires.
--
--   relay.trigger_name(catalogue)           the trigger's name on the table
--   relay.capture_name(catalogue)           its function's name in relay_capture
--   relay.capture_settings()                the settings the function runs with
--   relay.capture_body(catalogue)           the function's source, of one of three kinds:
--   relay.truncate_body, relay.row_body (03_body_of_row), relay.statement_body (03_body_of_statement)
--
-- Everything that can fail is evaluated in its own block, which writes nothing and so costs no transaction id: an
-- expression that fails becomes a relay:resync for the account instead of an error in the application's write. This
-- includes the condition. In the trigger's WHEN an error would fail the write, and the columns it names could be
-- neither retyped nor dropped. A row that does not match costs about 5 us, mostly for the function's settings;
-- condition_in => 'trigger' is for tables where that is too much.

create or replace function relay.capture_name(published relay.catalogue) returns text
language sql immutable
set search_path = pg_catalog, pg_temp
as $$ select published.event || '/' || lower(published.operation) || coalesce('/' || nullif(published.number, 1), '') $$;
comment on function relay.capture_name(relay.catalogue) is 'Name of a published event''s function in relay_capture: doctors.deleted/update; of its second table doctors.deleted/update/2.';

-- Triggers fire in the order of their names, and "!" comes before letters and digits: an event is recorded before an
-- application's own trigger changes the row again, and before a foreign key's cascade.
-- Two tables of an event have triggers with different names: one may become a partition of the other, and Postgres
-- refuses that if the names are equal.
create or replace function relay.trigger_name(published relay.catalogue) returns text
language sql immutable
set search_path = pg_catalog, pg_temp
as $$ select '!' || relay.capture_name(published) $$;
comment on function relay.trigger_name(relay.catalogue) is 'Name of a published event''s trigger: !doctors.deleted/update.';

-- In the form of pg_proc. With row_security off, row-level security that would hide rows is an error, which becomes a
-- relay:resync. The others are the defaults of a session, since the writer's settings would show in a payload.
create or replace function relay.capture_settings() returns text[]
language sql immutable
set search_path = pg_catalog, pg_temp
as $$
  select array['search_path=pg_catalog, pg_temp', 'TimeZone=UTC', 'row_security=off', 'IntervalStyle=postgres',
               'bytea_output=hex', 'DateStyle=ISO, MDY', 'extra_float_digits=1']
$$;
comment on function relay.capture_settings() is 'Settings of every trigger function, as pg_proc shows them.';

create or replace function relay.truncate_body(published relay.catalogue) returns text
language sql stable
set search_path = pg_catalog, pg_temp set quote_all_identifiers = off
as $body$
  select format($f$
begin
  insert into relay.events (account_id, event, payload)
  values (null, 'relay:resync', jsonb_build_object('event', %1$L, 'table', %2$L, 'reason', 'truncated'));
  return null;
end
$f$, published.event, published.on_table)
$body$;
comment on function relay.truncate_body(relay.catalogue) is 'Part of relay.capture_body(): TRUNCATE names no rows, so every account refetches.';

create or replace function relay.capture_body(published relay.catalogue) returns text
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  select case
    when published.operation = 'TRUNCATE' then relay.truncate_body(published)
    when published.level = 'row' then relay.row_body(published)
    else relay.statement_body(published)
  end
$$;
comment on function relay.capture_body(relay.catalogue) is 'Source of the trigger function of a published event.';

create or replace function relay.looks_up(published relay.catalogue) returns boolean
language sql immutable
set search_path = pg_catalog, pg_temp
as $$ select published.operation = 'DELETE' and published.level = 'row' and published.account ~* '\mselect\M' $$;
comment on function relay.looks_up(relay.catalogue) is 'Whether the account of a deleted row is looked up in other rows, which may be deleted too.';
