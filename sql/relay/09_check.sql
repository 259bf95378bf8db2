-- Checks the events themselves, and combines all checks.
--
--   relay.check_events()         failures, unknown names, slots that grow
--   relay.check()                every problem, with its remedy; no row means no problem

-- A rule (sql/clinic/01_rules.sql) may record a failure of an event at a table that the event is not published for.
create or replace function relay.cured_at(event text, on_table text) returns timestamptz
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  select coalesce(max(c.published_at) filter (where c.table_name = cured_at.on_table),
                  greatest(max(c.published_at), (select u.unpublished_at from relay.unpublished as u where u.event = cured_at.event)))
    from relay.catalogue as c where c.event = cured_at.event
  having count(*) > 0
$$;
comment on function relay.cured_at(text, text) is 'Part of relay.check(): the time since which failures of an event at a table count. Null if they do not, since the event is not published.';

create or replace function relay.check_events(
  out problem text, out event text, out object text, out detail text, out remedy text
) returns setof record
language plpgsql stable security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  found record;
begin
  for found in
    select f.event, f.on_table, count(*) as times, max(f.failed_at) as latest, (array_agg(f.error order by f.event_id desc))[1] as error
      from relay.failures as f
     -- An event that was published again since may be mended.
     where f.failed_at > relay.cured_at(f.event, f.on_table)
     group by f.event, f.on_table order by 1, 2
  loop
    problem := 'captures_failed';
    event := found.event;
    object := found.on_table;
    detail := format('%s times, last at %s: %s', found.times, to_char(found.latest at time zone 'UTC', 'YYYY-MM-DD HH24:MI:SS "UTC"'), found.error);
    remedy := 'Publish the event again with expressions that cannot fail; select * from relay.failures.';
    return next;
  end loop;

  for found in
    select e.event, count(*) as times
      -- The newest events are enough to find a misspelt name.
      from (select n.event, n.created_at from relay.events as n order by n.xid desc limit 100000) as e
     where e.event not like 'relay:%' and not exists (select from relay.catalogue as c where c.event = e.event)
       and not exists (select from relay.unpublished as u where u.event = e.event and u.unpublished_at > e.created_at)
     group by e.event order by e.event
  loop
    problem := 'event_unknown';
    event := found.event;
    object := 'relay.events';
    detail := format('%s of the newest events have this name, which the contract does not know: they are not sent.', found.times);
    remedy := format('select relay.publish(event => %L), if clients should hear it', event);
    return next;
  end loop;

  for found in
    select e.payload ->> 'event' as event, e.payload ->> 'table' as on_table,
           case when e.event <> 'relay:unheard' then 'event_overtaken' when e.payload ->> 'reason' = 'nobody' then 'audience_empty' else 'account_unknown' end as problem,
           sum(coalesce((e.payload ->> 'rows')::bigint, 1)) as times
      from (select n.event, n.payload, n.created_at from relay.events as n order by n.xid desc limit 100000) as e
     where (e.event = 'relay:unheard' or e.event = 'relay:resync' and e.payload ->> 'reason' = 'overtaken')
       and e.created_at > relay.cured_at(e.payload ->> 'event', e.payload ->> 'table')
     group by 1, 2, 3 order by 1, 2, 3
  loop
    problem := found.problem;
    event := found.event;
    object := coalesce(found.on_table, 'relay.emit()');
    if problem = 'audience_empty' then
      detail := format('%s times the audience was empty: null, or no topic. Nobody heard the event.', found.times);
      remedy := 'If this is intended, exclude such rows in the event''s condition, which costs less. array[''*''] means everybody of the account.';
    elsif problem = 'account_unknown' then
      detail := format('%s rows were deleted whose account could not be found, probably because a cascade had deleted the row it is looked up in: nobody was told.', found.times);
      remedy := 'Keep the account in a column of the table, and publish the event again with it.';
    else
      detail := format('%s times a trigger of the application had changed the row again before the event was recorded: the account was told to refetch instead.', found.times);
      remedy := 'Publish the event again with at => ''commit''.';
    end if;
    return next;
  end loop;

  -- Compares stored sizes: to find large ones that compress well it would have to read them all.
  for found in
    select e.event, count(*) filter (where octet_length(e.account_id) > 256) as accounts, count(*) as times
      from (select n.event, n.account_id, n.payload from relay.events as n order by n.xid desc limit 100000) as e
     where (octet_length(e.account_id) > 256 or pg_column_size(e.payload) > 4194304) and e.event <> 'relay:resync'
     group by e.event order by e.event
  loop
    problem := 'event_too_large';
    event := found.event;
    object := 'relay.events';
    detail := format('%s of the newest events were inserted with an account of more than 256 bytes, which nobody hears, and %s with a payload of more than 4 MiB, in whose place clients are told to refetch.',
      found.accounts, found.times - found.accounts);
    remedy := 'Insert with relay.emit(), which refuses them.';
    return next;
  end loop;

  for found in select * from relay.slots() as s where s.overdue is not null loop
    problem := 'slot_overdue';
    event := null;
    object := format('relay.events_%s', found.slot);
    detail := found.overdue;
    remedy := 'Look for a transaction that keeps it locked (select * from relay.status), and whether a relay is connected: relays empty the slots.';
    return next;
  end loop;

  if pg_notification_queue_usage() > 0.5 then
    problem := 'notification_queue';
    event := null;
    object := 'pg_notification_queue_usage()';
    detail := format('%s %% full: a session that listens has been in a transaction for a long time. When it is full, commits that notify fail.', round((pg_notification_queue_usage() * 100)::numeric));
    remedy := 'End that session: the server''s log names it.';
    return next;
  end if;
end
$$;
comment on function relay.check_events() is 'Part of relay.check(): problems of the events themselves.';

create or replace function relay.check(
  out problem text, out event text, out object text, out detail text, out remedy text
) returns setof record
language sql volatile
set search_path = pg_catalog, pg_temp
as $$
  with broken as materialized (select * from relay.check_expressions())
  select * from relay.check_outbox()
  union all
  select * from relay.check_locks()
  union all
  select * from relay.check_disk()
  union all
  -- A column that was renamed changes the trigger that names it.
  select * from relay.check_triggers() as t where t.problem <> 'trigger_altered' or not exists (select from broken where broken.event = t.event)
  union all
  select * from broken
  union all
  select * from relay.check_events()
$$;
comment on function relay.check() is 'Every problem, with a code, its object and a remedy. No row means no problem.';
