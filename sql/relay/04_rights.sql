-- Who may capture, and who has signed an event's SQL.
--
--   relay.admit(role)            lets a role emit events
--   relay.admit_capture(role)    lets a role own capture functions
--   relay.sign()                 trigger of relay.catalogue: sets published_by to the role that wrote an event's SQL
--
-- A publisher gains no rights: the function belongs to the owner of the table if the publisher may act for that role,
-- and to the publisher otherwise. This also holds if a more powerful role (a migrating superuser) publishes the event
-- again from the catalogue, and nothing runs the catalogue's SQL on the way. The role that writes an event's SQL into
-- the catalogue signs it, and the event is only installed where that role could install it.

create or replace function relay.admit(role_name name) returns void
language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp
as $$
begin
  execute format('grant usage on schema relay to %I', role_name);
  execute format('grant execute on function relay.emit(text, text, jsonb), relay.emit(text, text, jsonb, text[]) to %I', role_name);
end
$$;
comment on function relay.admit(name) is 'Lets a role call relay.emit(): events of any account, except those that only Recado writes (relay:...).';

-- A capture function inserts as its owner, who can therefore insert anything. The owner's tables already decide what
-- accounts hear.
create or replace function relay.admit_capture(role_name name) returns void
language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp
as $$
begin
  perform relay.admit(role_name);
  execute format('grant usage, create on schema relay_capture to %I', role_name);
  execute format('grant insert (account_id, event, payload, audience) on relay.events to %I', role_name);
end
$$;
comment on function relay.admit_capture(name) is 'Lets a role own capture functions, which insert into relay.events (account_id, event, payload and audience only). relay.publish() calls it for the owners of its tables.';

-- Runs with the rights of the role that writes the row, since a SECURITY DEFINER function could not tell who that is.
create or replace function relay.sign() returns trigger
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
begin
  if tg_op = 'INSERT' or new.event <> old.event then
    perform relay.refuse_name(new.event);
  end if;
  if tg_op = 'UPDATE'
     and (old.event, old.operation, old.number, old.on_table, old.table_name, old.level, old.fires_at, old.condition, old.condition_in, old.account, old.payload, old.audience, old.key, old.published_by)
         is not distinct from
         (new.event, new.operation, new.number, new.on_table, new.table_name, new.level, new.fires_at, new.condition, new.condition_in, new.account, new.payload, new.audience, new.key, new.published_by)
     -- These columns find a table again; relay.notice_swaps() writes them as their owner.
     and ((old.told_of, old.known_as) is not distinct from (new.told_of, new.known_as)
          or pg_has_role(current_user, (select c.relowner from pg_class as c where c.oid = tg_relid), 'USAGE')) then
    return new;
  end if;
  -- A superuser restores what others have published, perhaps before their roles are there.
  if not coalesce(pg_has_role(current_user, to_regrole(quote_ident(new.published_by)), 'USAGE'), false)
     and not (select r.rolsuper from pg_roles as r where r.rolname = current_user) then
    new.published_by := current_user;
  end if;
  return new;
end
$$;
comment on function relay.sign() is 'Trigger of relay.catalogue: sets published_by to the role that wrote an event''s SQL, or one that it may act for, whatever was given.';

do $$
begin
  if not exists (select from pg_trigger where tgrelid = 'relay.catalogue'::regclass and tgname = 'sign') then
    create trigger sign before insert or update on relay.catalogue for each row execute function relay.sign();
  end if;
end
$$;
