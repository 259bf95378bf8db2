-- Emptying the ring.
--
--   relay.rotate(seen)            what every relay calls from time to time: empties each slot that may be
--   relay.empty_slot(slot, seen)  one slot
--   relay.slot_at(timestamptz)    where writers are at a time
--   relay.set_retention(interval) for a DBA
--
-- What is in a slot decides, never the clock's idea of which slot is old: relays may have been down for longer than
-- the ring, clocks jump, settings change. A slot is emptied when every row in it is older than the retention and has
-- been seen by the relay that asks. No writer waits: the lock is taken at once or not at all, and a slot that writers
-- are in, or soon will be, is left alone for this turn. A slot that cannot be emptied grows, and relay.status says so.
--
-- TRUNCATE leaves no bloat, and is not MVCC-safe: who reads afterwards in an older snapshot finds nothing. Hence
-- relay.installation.emptied_through, written in the same transaction, which every reader compares. A transaction
-- that was in progress at that moment had no event in the slot, or the lock could not have been taken: emptied_in
-- says which those were, so that a writer older than the retention makes nobody refetch when it commits.

create or replace function relay.empty_slot(slot int, seen pg_snapshot) returns text
language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp set jit = off
as $$
declare
  kept_for interval;
  partition text := format('relay.events_%s', empty_slot.slot);
  newest timestamptz;
  looked pg_snapshot;
  emptied_now pg_snapshot;
  must_stay boolean;
  largest xid8;
  witness text;
begin
  -- Under an older snapshot, what is looked at under the lock would be what was there before it.
  if current_setting('transaction_isolation') <> 'read committed' then
    raise exception 'relay.rotate(): received a transaction that is %, expected read committed', current_setting('transaction_isolation')
      using errcode = 'invalid_transaction_state', hint = 'set transaction isolation level read committed';
  end if;
  select retention into strict kept_for from relay.installation;
  execute format('select created_at from %s order by xid desc limit 1', partition) into newest;
  if newest is null then
    return 'empty';
  end if;
  if newest > clock_timestamp() - kept_for then
    return 'in use';
  end if;
  -- The long look is taken without a lock ...
  execute format('select pg_current_snapshot(), coalesce(bool_or(created_at > clock_timestamp() - $1 or not pg_visible_in_snapshot(xid, $2)), false) from %s', partition)
    using kept_for, seen into looked, must_stay;
  if must_stay then
    return 'not read yet';
  end if;
  -- Before the slot's lock: snapshots under which slots are emptied must follow each other as they are written down.
  perform from relay.installation for update skip locked;
  if not found then
    return 'busy';
  end if;
  begin
    execute format('lock table %s in access exclusive mode nowait', partition);
  exception when lock_not_available then
    return 'busy';
  end;
  -- ... and under the lock, in a new statement, only what has come since: two index scans.
  execute format('select exists (select from %1$s where xid >= $1)
                      or exists (select from %1$s where xid = any ($2)),
                  (select xid from %1$s order by xid desc limit 1), pg_current_snapshot()', partition)
    using pg_snapshot_xmax(looked), array(select pg_snapshot_xip(looked)) into must_stay, largest, emptied_now;
  if must_stay then
    return 'in use';
  end if;
  execute format('select relay.witness(created_at) from %s where xid = $1 order by id desc limit 1', partition) using largest into witness;
  update relay.installation
     set emptied_witness = case when largest >= coalesce(emptied_through, largest) then witness else emptied_witness end,
         emptied_through = greatest(emptied_through, largest), emptied_in = emptied_now;
  perform set_config('relay.removing', 'on', true);
  execute format('truncate %s', partition);
  return 'emptied';
end
$$;
comment on function relay.empty_slot(int, pg_snapshot) is 'Empties one slot of the ring if everything in it is older than the retention and seen by the caller; says what became of it.';

create or replace function relay.slot_at(moment timestamptz) returns int
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  select (floor(date_part('epoch', moment) / ceil(extract(epoch from retention) / 6)::bigint)::bigint % 8)::int
    from relay.installation
$$;
comment on function relay.slot_at(timestamptz) is 'Slot of the ring that events of this time are written to; the same as the default of relay.events.slot.';

create or replace function relay.rotate(seen pg_snapshot) returns table (slot int, outcome text)
language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp
as $$
begin
  -- What decides is still the content; this only keeps the lock out of the way of writers who enter the slot.
  for slot in select s from generate_series(0, 7) as s
    where s not in (relay.slot_at(clock_timestamp()),
                    relay.slot_at(clock_timestamp() + (select retention / 60 from relay.installation)))
  loop
    outcome := relay.empty_slot(slot, seen);
    return next;
    -- One slot at a time, so that its lock is not kept while the next is looked at.
    exit when outcome = 'emptied';
  end loop;
end
$$;
comment on function relay.rotate(pg_snapshot) is 'Empties the first slot of the ring that may be emptied. Called by the relays; call it again for the next.';

create or replace function relay.set_retention(kept_for interval) returns void
language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp set lock_timeout = '2s'
as $$
declare
  slot_seconds bigint := ceil(extract(epoch from kept_for) / 6);
begin
  if kept_for is null or kept_for < interval '1 minute' or kept_for > interval '1 year' then
    raise exception 'relay.set_retention(%): expected between 1 minute and 1 year', coalesce(quote_literal(kept_for), 'null')
      using errcode = 'invalid_parameter_value';
  end if;
  -- Eight slots, of which six hold the retention: one is being written, one is being emptied.
  execute format('alter table only relay.events alter column slot set default '
    '(floor(date_part(''epoch'', clock_timestamp()) / %s)::bigint %% 8)::smallint', slot_seconds);
  update relay.installation set retention = kept_for;
end
$$;
comment on function relay.set_retention(interval) is 'How long events are kept for clients that come back. Takes a moment without open transactions on relay.events, or fails after two seconds and can be repeated.';
