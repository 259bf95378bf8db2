-- Changes a published event, or one of its tables.
--
--   relay.unpublish(event, on_table)     removes it
--   relay.republish(event, on_table)     creates trigger and function again, from the catalogue
--   relay.suspend(event, on_table)       drops the triggers for a while
--   relay.resume(event, on_table)        creates them again

-- Of earlier versions, with an argument less.
drop function if exists relay.unpublish(text);
drop function if exists relay.republish(text);
drop function if exists relay.suspend(text);
drop function if exists relay.resume(text);

create or replace function relay.note_unpublished(event text) returns void
language sql volatile security definer
set search_path = pg_catalog, pg_temp
as $$
  insert into relay.unpublished (event, unpublished_at) values (note_unpublished.event, clock_timestamp())
  on conflict on constraint unpublished_pkey do update set unpublished_at = excluded.unpublished_at
$$;
comment on function relay.note_unpublished(text) is 'Part of relay.unpublish(): relay.check() does not report what was recorded of the event so far.';

create or replace function relay.unpublish(event text, on_table text default null) returns boolean
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_variable
declare
  published relay.catalogue;
  any_found boolean := false;
begin
  for published in select * from relay.entries_of(event, on_table, null) loop
    any_found := true;
    perform relay.remove(published);
  end loop;
  if any_found then
    perform relay.note_unpublished(event);
  end if;
  return any_found;
end
$$;
comment on function relay.unpublish(text, text) is 'Removes an event from the contract, or one of its tables from the event, with triggers and functions. Returns false if there was none with that name.';

create or replace function relay.republish(event text, on_table text default null) returns text
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_variable
declare
  published relay.catalogue;
  outcome text;
  outcomes text[];
begin
  for published in select * from relay.entries_of(event, on_table, 'relay.republish') loop
    -- Another table of the event may have turned out to be the same.
    continue when not exists (
      select from relay.catalogue as c where (c.event, c.operation, c.number) = (published.event, published.operation, published.number));
    if published.suspended then
      outcome := 'suspended';
    elsif published.operation = 'EMIT' then
      outcome := 'unchanged';
    else
      published.published_at := clock_timestamp();
      outcome := relay.install(published);
    end if;
    outcomes := outcomes || outcome;
  end loop;
  return (select string_agg(distinct o, ', ') from unnest(outcomes) as o);
end
$$;
comment on function relay.republish(text, text) is 'Publishes an event, or one of its tables, again as the catalogue describes it: after an upgrade of Recado, or when its trigger or function was dropped. Suspended events stay so.';

create or replace function relay.suspend(event text, on_table text default null) returns void
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_variable
declare
  published relay.catalogue;
begin
  for published in select * from relay.entries_of(event, on_table, 'relay.suspend') loop
    perform relay.drop_triggers(published);
    update relay.catalogue as c set suspended = true, suspended_at = now()
     where (c.event, c.operation, c.number) = (published.event, published.operation, published.number) and not c.suspended;
  end loop;
end
$$;
comment on function relay.suspend(text, text) is 'Drops the triggers of an event, or those of one of its tables, so that rows can be changed without events. In one transaction with relay.resume(), no other session''s change goes uncaptured.';

create or replace function relay.resume(event text, on_table text default null) returns void
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_variable
begin
  update relay.catalogue as c set suspended = false, suspended_at = null
    from relay.entries_of(event, on_table, 'relay.resume') as published
   where (c.event, c.operation, c.number) = (published.event, published.operation, published.number);
  perform relay.republish(event, on_table);
end
$$;
comment on function relay.resume(text, text) is 'Publishes a suspended event, or one of its tables, again, against the table as it is now.';
