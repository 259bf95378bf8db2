-- Removes old events from the ring.
--
--   relay.rotate(seen)            called regularly by every relay: empties a slot that may be emptied
--   relay.empty_slot(slot, seen)  empties one slot
--   relay.slot_at(timestamptz)    the slot that is written to at a time
--   relay.leave_out(slot, seen)   called by a relay before it reads past a slot that is locked
--   relay.take_back(ids)          called by a relay that has searched them since
--   relay.set_retention(interval) for a DBA
--
-- The content of a slot decides, never its place in the ring: relays may have been down for longer than the ring lasts,
-- clocks jump, settings change. A slot is emptied if every row in it is older than the retention and seen by the relay
-- that asks. No writer waits: the lock is taken at once or not at all, and a slot that writers use, or soon will, is
-- left for a later call. A slot that cannot be emptied grows, and relay.status reports it.
--
-- TRUNCATE leaves no bloat but is not MVCC-safe: a reader with an older snapshot then finds nothing. So the same
-- transaction writes relay.installation.emptied_through, which every reader compares. A transaction in progress at that
-- moment had no event in the slot, or the lock could not have been taken. emptied_in records these transactions, so
-- that a writer that outlives the retention makes nobody refetch when it commits.

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
  -- With an older snapshot, the check under the lock would see the state before the lock.
  if current_setting('transaction_isolation') <> 'read committed' then
    raise exception 'relay.rotate(): received a transaction that is %, expected read committed', current_setting('transaction_isolation')
      using errcode = 'invalid_transaction_state', hint = 'set transaction isolation level read committed';
  end if;
  select retention into strict kept_for from relay.installation;
  -- Reading would wait for the session that locks the slot, and keep the locks of slots looked at before.
  begin
    execute format('lock table %s in access share mode nowait', partition);
  exception when lock_not_available then
    return 'busy';
  end;
  execute format('select created_at from %s order by xid desc limit 1', partition) into newest;
  if newest is null then
    return 'empty';
  end if;
  if newest > clock_timestamp() - kept_for then
    return 'in use';
  end if;
  -- The slow check runs without a lock ...
  execute format('select pg_current_snapshot(), coalesce(bool_or(created_at > clock_timestamp() - $1 or not pg_visible_in_snapshot(xid, $2)), false) from %s', partition)
    using kept_for, seen into looked, must_stay;
  if must_stay then
    return 'not read yet';
  end if;
  -- A relay still has to search it.
  if exists (select from relay.left_out as l where l.slot = empty_slot.slot) then
    return 'busy';
  end if;
  -- One block, which lets go of the row if the slot is busy: relay.rotate() goes on to other slots.
  begin
    -- Locked before the slot, so that the snapshots of removals are recorded in order.
    perform from relay.installation for update skip locked;
    if not found then
      return 'busy';
    end if;
    execute format('lock table %s in access exclusive mode nowait', partition);
  exception when lock_not_available then
    return 'busy';
  end;
  -- ... and under the lock a new statement checks only what was added since: two index scans.
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
comment on function relay.empty_slot(int, pg_snapshot) is 'Empties one slot of the ring if everything in it is older than the retention and seen by the caller; returns the outcome.';

create or replace function relay.slot_at(moment timestamptz) returns int
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  -- Never divides by zero: a relay calls this when it starts, and the stored retention may be one that set_retention() refuses.
  select (floor(date_part('epoch', moment) / least(greatest(ceil(extract(epoch from retention) / 6), 1), 1e9)::bigint)::bigint % 8)::int
    from relay.installation
$$;
comment on function relay.slot_at(timestamptz) is 'Slot of the ring that events of this time are written to; the same as the default of relay.events.slot.';

create or replace function relay.leave_out(slot int, seen pg_snapshot) returns bigint
language sql volatile security definer
set search_path = pg_catalog, pg_temp
as $$ insert into relay.left_out (slot, seen) values (leave_out.slot, leave_out.seen) returning id $$;
comment on function relay.leave_out(int, pg_snapshot) is 'Called by a relay before it reads past a slot that another program has locked.';

create or replace function relay.take_back(ids bigint[]) returns void
language sql volatile security definer
set search_path = pg_catalog, pg_temp
as $$ delete from relay.left_out where id = any (ids) $$;
comment on function relay.take_back(bigint[]) is 'Called by a relay that has searched free slots for skipped events and found none.';

create or replace function relay.rotate(seen pg_snapshot) returns table (slot int, outcome text)
language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp
as $$
begin
  -- The content still decides; this only keeps the lock away from slots that writers are about to use.
  for slot in select s from generate_series(0, 7) as s
    where s not in (relay.slot_at(clock_timestamp()),
                    relay.slot_at(clock_timestamp() + (select retention / 60 from relay.installation)))
  loop
    outcome := relay.empty_slot(slot, seen);
    return next;
    -- One slot at a time, so that its lock is not held while the next one is checked.
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
  -- Six of the eight slots hold the retention; one is being written, and one is being emptied.
  execute format('alter table only relay.events alter column slot set default '
    '(floor(date_part(''epoch'', clock_timestamp()) / %s)::bigint %% 8)::smallint', slot_seconds);
  update relay.installation set retention = kept_for;
end
$$;
comment on function relay.set_retention(interval) is 'Sets how long events are kept for clients that reconnect. Needs a moment without open transactions on relay.events; otherwise it fails after two seconds and can be repeated.';
