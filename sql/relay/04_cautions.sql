-- Warns of events that work but may not do what one expects.
--
--   relay.cautions(catalogue)               the warnings of relay.publish()
--   relay.overtaking_triggers(catalogue)    triggers of the application that change a row again

create or replace function relay.cautions(published relay.catalogue) returns setof text
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
declare
  kind "char" := (select c.relkind from pg_class as c where c.oid = published.on_table);
  others text;
begin
  if published.operation = 'TRUNCATE' then
    return;
  end if;
  if published.level = 'row' and published.operation = 'UPDATE' and kind = 'p' then
    return next format('a row that moves to another partition of %s is no UPDATE for a row trigger; with level => ''statement'' it is', published.on_table);
  end if;
  if exists (select from pg_attribute as a where a.attrelid = published.on_table and a.attgenerated = 'v' and not a.attisdropped) then
    return next format('virtual generated columns of %s are null in new and old; write their expression instead', published.on_table);
  end if;
  if published.condition_in = 'trigger' then
    return next format('an error in the condition fails writes to %s, and the columns it names can be neither retyped nor dropped without relay.suspend()', published.on_table);
  end if;
  others := relay.overtaking_triggers(published);
  if others is not null then
    return next format('%s may change the same rows again before the event is recorded, and the event would be out of date; at => ''commit'' avoids this', others);
  end if;
  if published.operation = 'DELETE' then
    select string_agg(distinct k.confrelid::regclass::text, ', ') into others
      from pg_constraint as k join pg_class as parent on parent.oid = k.confrelid
     where k.conrelid = published.on_table and k.contype = 'f' and k.confdeltype = 'c' and relay.looks_up(published)
       and published.account ~* format('\m%s\M', regexp_replace(parent.relname, '\W', '.', 'g'));
    if others is not null then
      return next format('a row that a cascade deletes with its row of %s has no account any more, so nobody hears of it; relay.check() counts such rows. Keep the account in a column of %s', others, published.on_table);
    end if;
  end if;
end
$$;
comment on function relay.cautions(relay.catalogue) is 'Part of relay.publish(): its warnings.';

-- Guesses from the source text, since a function's effects cannot be known. A row trigger notices by itself that it was
-- overtaken.
create or replace function relay.overtaking_triggers(published relay.catalogue) returns text
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  select string_agg(format('trigger %I', t.tgname), ', ' order by t.tgname)
    from pg_trigger as t join pg_proc as p on p.oid = t.tgfoid join pg_class as c on c.oid = t.tgrelid
   where t.tgrelid = published.on_table and not t.tgisinternal and t.tgtype & 2 = 0
     and published.level = 'statement' and published.operation in ('INSERT', 'UPDATE')
     and p.pronamespace <> 'relay_capture'::regnamespace
     and p.prosrc ~* format('\m(update|merge\s+into)\s+(only\s+)?("?\w+"?\s*\.\s*)?"?%s\M', regexp_replace(c.relname, '\W', '.', 'g'))
$$;
comment on function relay.overtaking_triggers(relay.catalogue) is 'Triggers of the application that seem to update the rows of the table they stand on, before an event of statement level is recorded.';
