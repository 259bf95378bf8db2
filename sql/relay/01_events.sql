-- Writing to the outbox.
--
--   relay.gate_key()              advisory lock that says whether commits ring (the protocol: relay/wakeup.ts)
--   relay.ring()                  default of relay.events.xid: rings the doorbell once per transaction
--   relay.refuse_name(text)       names no client could survive
--   relay.emit(account, event, payload)   an event without a trigger
--
-- Capture functions and applications insert into relay.events directly; relay.emit() only checks more.

create or replace function relay.gate_key() returns bigint
language sql immutable parallel safe
as $$ select 8242561920741 $$;
comment on function relay.gate_key() is 'Advisory lock of the gate. Writers try it shared before they ring; a relay that holds it exclusively silences them.';

-- Postgres holds one lock for the whole cluster from NOTIFY to the end of the commit, so a transaction rings at
-- most once (relay.rung is local to it, and a savepoint that rolls back takes flag, lock and NOTIFY with it), and
-- not at all while a relay holds the gate. Mute it for a role with: alter role x set relay.ring = off, which
-- costs up to a second of delay; needed for PREPARE TRANSACTION, which Postgres refuses after a NOTIFY.
-- An event must not be seen before its commit is on disk: after a crash its transaction id would be given out
-- again, and the client would have seen what never happened. Hence no asynchronous commit.
-- The transaction has its id before it looks at the gate: the gate's reopening rule counts on that.
-- One expression without a search_path of its own (hence the qualified names): it runs once in every transaction
-- that tells something, and as statements cost it 4 µs more.
create or replace function relay.ring() returns xid8
language plpgsql volatile
as $$
begin
  return case
    when pg_catalog.pg_current_xact_id() is null
      or pg_catalog.set_config('relay.rung', 'on', true) is null then null
    when pg_catalog.current_setting('synchronous_commit') operator(pg_catalog.=) 'off'
     and pg_catalog.set_config('synchronous_commit', 'local', true) is null then null
    when pg_catalog.current_setting('relay.ring', true) operator(pg_catalog.=) 'off' then pg_catalog.pg_current_xact_id()
    when pg_catalog.pg_try_advisory_xact_lock_shared(relay.gate_key())
     and pg_catalog.pg_notify('relay', '') is null then null
    else pg_catalog.pg_current_xact_id()
  end;
end
$$;
comment on function relay.ring() is 'Wakes the relays; returns the transaction id. The default of relay.events.xid calls it for the first event of a transaction.';

-- In a default and not in a trigger: a trigger on relay.events costs 14 µs for every row that a row trigger
-- captures (its WHEN is parsed for every statement), this a tenth of one.
do $$
begin
  if (select pg_get_expr(d.adbin, d.adrelid) from pg_attrdef as d join pg_attribute as a on (a.attrelid, a.attnum) = (d.adrelid, d.adnum)
       where d.adrelid = 'relay.events'::regclass and a.attname = 'xid') not like '%relay.ring()%' then
    alter table only relay.events alter column xid set default
      case when current_setting('relay.rung', true) = 'on' then pg_current_xact_id() else relay.ring() end;
  end if;
end
$$;

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
comment on function relay.refuse_name(text) is 'Raises where a name cannot be an event: reserved by Socket.IO or by the relay, or not a plain name.';

create or replace function relay.emit(account text, event text, payload jsonb default 'null') returns void
language plpgsql security definer
set search_path = pg_catalog, pg_temp
as $$
begin
  perform relay.refuse_name(emit.event);
  if emit.account is null then
    raise exception 'account: received null, expected the account whose clients shall hear %', quote_literal(emit.event)
      using errcode = 'null_value_not_allowed';
  end if;
  insert into relay.events (account_id, event, payload)
  values (emit.account, emit.event, coalesce(emit.payload, 'null'));
end
$$;
comment on function relay.emit(text, text, jsonb) is 'Records an event for an account, in the transaction of the caller. The event must be in the contract to be sent: select relay.publish(event => …).';
