-- Writing to the outbox.
--
--   relay.gate_key()              advisory lock that says whether commits notify (the protocol: relay/feed/notify-gate.ts)
--   relay.ringing_xid()           default of relay.events.xid: notifies the relays once per transaction
--   relay.restore_defaults()      for a DBA: sets the defaults again
--   relay.refuse_name(text)       raises for a name that Socket.IO or the relay reserves
--   relay.emit(account, event, payload, audience)   an event without a trigger
--
-- Capture functions and applications may insert into relay.events directly; relay.emit() adds checks.

create or replace function relay.gate_key() returns bigint
language sql immutable parallel safe
as $$ select 8242561920741 $$;
comment on function relay.gate_key() is 'Advisory lock of the gate. Writers try it shared before they notify; while a relay holds it exclusively, they do not notify.';

-- The default of relay.events.xid. Postgres holds one lock for the whole cluster from NOTIFY to the end of the commit,
-- so a commit notifies only if it gets the gate's lock shared, and not at all while a relay holds the gate; it notifies
-- once, since Postgres keeps one of a transaction's equal notifications. alter role x set relay.ring = off switches it
-- off for a role, whose events then come up to a second late. PREPARE TRANSACTION needs that, since Postgres refuses it
-- after a NOTIFY.
-- An event must not be seen before its commit is on disk: a crash would undo it and reuse its transaction id after
-- clients have seen it. Hence no asynchronous commit.
-- The transaction gets its id before it looks at the gate: relays of earlier versions rely on that when they open it.
-- It is an expression in a default because a trigger on relay.events costs 14 us for every captured row (its WHEN is
-- parsed for every statement), and a function 8 us with 32 writers on two processors.
create or replace function relay.ringing_xid() returns text
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  select format($default$case
    when pg_current_xact_id() is null
      or current_setting('synchronous_commit') = 'off' and set_config('synchronous_commit', 'local', true) is null then null
    when current_setting('relay.ring', true) = 'off' then pg_current_xact_id()
    when pg_try_advisory_xact_lock_shared(%s) and pg_notify('relay', '') is null then null
    else pg_current_xact_id()
  end$default$, relay.gate_key());
$$;
comment on function relay.ringing_xid() is 'The default of relay.events.xid, as SQL: wakes the relays unless the gate is closed, and gives the transaction id.';

create or replace function relay.restore_defaults() returns void
language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp
as $$
begin
  execute format('alter table only relay.events alter column xid set default %s, alter column created_at set default clock_timestamp()',
    relay.ringing_xid());
end
$$;
comment on function relay.restore_defaults() is 'Restores the defaults of relay.events.xid and created_at. relay.set_retention() restores that of slot.';

do $$
begin
  -- Only if it changed, since it waits for every open transaction that has written an event.
  if (select strpos(pg_get_expr(d.adbin, d.adrelid), 'pg_try_advisory_xact_lock_shared') = 0
        from pg_attrdef as d join pg_attribute as a on (a.attrelid, a.attnum) = (d.adrelid, d.adnum)
       where d.adrelid = 'relay.events'::regclass and a.attname = 'xid') then
    perform relay.restore_defaults();
  end if;
end
$$;
-- The default of earlier versions called it.
drop function if exists relay.ring();

create or replace function relay.refuse_name(event text) returns void
language plpgsql immutable
set search_path = pg_catalog, pg_temp
as $$
begin
  if event is null or event !~ '^[A-Za-z][A-Za-z0-9_.:/-]{0,49}$' then
    raise exception 'event: received %, expected a name of at most 50 letters, digits and . : / _ - that starts with a letter',
      coalesce(quote_literal(event), 'null') using errcode = 'invalid_parameter_value';
  end if;
  if event in ('connect', 'connect_error', 'disconnect', 'disconnecting', 'newListener', 'removeListener')
     or event like 'relay:%' then
    raise exception 'event: % is reserved: Socket.IO clients or the relay itself give it another meaning', quote_literal(event)
      using errcode = 'invalid_parameter_value', hint = 'Choose another name, for example one with a dot in it.';
  end if;
end
$$;
comment on function relay.refuse_name(text) is 'Raises if a name cannot be an event: reserved by Socket.IO or by the relay, or not a plain name.';

create or replace function relay.emit(account text, event text, payload jsonb, audience text[]) returns void
language plpgsql security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  topics text[];
begin
  perform relay.refuse_name(emit.event);
  if emit.account is null then
    raise exception 'account: received null, expected the account whose clients hear %', quote_literal(emit.event)
      using errcode = 'null_value_not_allowed';
  end if;
  if octet_length(emit.account) > 256 then
    raise exception 'account: received % bytes, expected at most 256', octet_length(emit.account) using errcode = 'string_data_right_truncation';
  end if;
  -- An empty path makes an uncompressed copy: pg_column_size() of a stored value is its compressed size.
  if pg_column_size(emit.payload #> '{}') > 4194304 then
    raise exception 'payload: received % bytes, expected at most 4 MiB', pg_column_size(emit.payload #> '{}')
      using errcode = 'program_limit_exceeded', hint = 'Send what changed, or an id by which the client loads the rest.';
  end if;
  if not exists (select from relay.catalogue as c where c.event = emit.event) then
    raise warning 'relay.emit(%): the event is not in the contract, so nobody hears it', quote_literal(emit.event)
      using hint = format('select relay.publish(event => %L)', emit.event);
  end if;
  topics := array(select distinct t collate "C" from unnest(emit.audience) as t where t is not null order by 1);
  if cardinality(topics) > 100 or exists (select from unnest(topics) as t where octet_length(t) > 128) then
    raise exception 'audience: received % topics, the longest of % bytes, expected at most 100, of at most 128 bytes each',
      cardinality(topics), (select max(octet_length(t)) from unnest(topics) as t)
      using errcode = 'program_limit_exceeded', hint = 'Name a topic that they share, such as a role.';
  end if;
  if topics = '{}' then
    insert into relay.events (account_id, event, payload)
    values ('', 'relay:unheard', jsonb_build_object('event', emit.event, 'reason', 'nobody'));
    return;
  end if;
  insert into relay.events (account_id, event, payload, audience)
  values (emit.account, emit.event, coalesce(emit.payload, 'null'), case when not '*' = any (topics) then topics end);
end
$$;
comment on function relay.emit(text, text, jsonb, text[]) is 'Records an event for clients of an account whose token has one of the topics, in the transaction of the caller. Null and an empty array mean nobody, array[''*''] means everybody of the account.';

create or replace function relay.emit(account text, event text, payload jsonb default 'null') returns void
language sql security definer
set search_path = pg_catalog, pg_temp
as $$ select relay.emit(emit.account, emit.event, emit.payload, array['*']) $$;
comment on function relay.emit(text, text, jsonb) is 'Records an event for everybody of an account, in the transaction of the caller. The event must be in the contract to be sent: select relay.publish(event => ...).';
