-- Positions: what somebody has seen, as a snapshot of transactions.
--
--   relay.epoch()            whose transaction ids these are
--   relay.settle_epoch()     what a relay calls whenever it connects: another epoch empties the outbox
--   relay.new_epoch()        for a DBA, after a storage snapshot was restored with all relays down
--   relay.position_text()    snapshot -> text; relay/feed/position.ts reads and writes the same
--   relay.position()         for an application: the position of the list it is just loading
--
-- The text is epoch-xmax.d.d.d in hexadecimal, where the transactions in progress follow as distances, largest
-- first: d = xmax - xip[1], xip[1] - xip[2], ...
--
-- The cut. After a crash Postgres gives out again the ids of transactions whose end was not on disk. So a
-- position names nothing above the largest transaction that wrote an event it has seen: that one is on disk.

create or replace function relay.epoch() returns text
language sql stable security definer
set search_path = pg_catalog, pg_temp
as $$
  -- The timeline comes from the name of a WAL file: the control file's is minutes late after a promotion.
  -- The oids tell a dump restored into the same cluster.
  select left(encode(sha256(convert_to(concat_ws(' ',
           installation.id,
           (select system_identifier from pg_control_system()),
           left(pg_walfile_name(pg_current_wal_lsn()), 8),
           (select oid from pg_database where datname = current_database()),
           'relay.events'::regclass::oid), 'UTF8')), 'hex'), 12)
    from relay.installation;
$$;
comment on function relay.epoch() is 'Whose transaction ids these are: changes when the database is restored, copied or failed over.';

create or replace function relay.settle_epoch() returns text
language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  now_epoch text := relay.epoch();
  settled text;
  emptied xid8;
begin
  select epoch into settled from relay.installation;
  if settled is not distinct from now_epoch then
    return now_epoch;
  end if;
  select epoch into settled from relay.installation for update;
  if settled is not null and settled <> now_epoch then
    -- DELETE, not TRUNCATE: no writer waits, and what writers of the new epoch have in flight stays.
    with gone as (delete from relay.events returning xid)
    select xid into emptied from gone
     where pg_visible_in_snapshot(xid, pg_current_snapshot()) order by xid desc limit 1;
  end if;
  update relay.installation
     set epoch = now_epoch,
         emptied_through = case when settled is null then emptied_through else emptied end,
         emptied_in = case when settled is null then emptied_in when emptied is not null then pg_current_snapshot() end
   where epoch is distinct from now_epoch;
  return now_epoch;
end
$$;
comment on function relay.settle_epoch() is 'Called by a relay when it connects: returns the epoch, and empties the outbox first if its rows belong to another one.';

create or replace function relay.new_epoch() returns text
language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp
as $$
begin
  update relay.installation set id = gen_random_uuid();
  return relay.settle_epoch();
end
$$;
comment on function relay.new_epoch() is 'Declares every position given out so far void; all clients refetch. Call it after restoring a storage snapshot while all relays were down.';

create or replace function relay.position_text(epoch text, xmax bigint, in_progress bigint[]) returns text
language sql immutable
set search_path = pg_catalog, pg_temp
as $$
  select position_text.epoch || '-' || to_hex(xmax) || coalesce(string_agg('.' || to_hex(distance), '' order by xid desc), '')
    from (select xid, coalesce(lag(xid) over (order by xid desc), xmax) - xid as distance
            from unnest(in_progress) as xid where xid < xmax) as below;
$$;
comment on function relay.position_text(text, bigint, bigint[]) is 'The text form of a position.';

-- STABLE, so that it sees what the statement that calls it sees: as VOLATILE it lost an event.
create or replace function relay.position() returns text
language plpgsql stable security definer
set search_path = pg_catalog, pg_temp set enable_seqscan = off set jit = off
as $$
declare
  snapshot pg_snapshot := pg_current_snapshot();
  own xid8 := pg_current_xact_id_if_assigned();
  seen xid8;
begin
  if pg_is_in_recovery() then
    raise exception 'relay.position() was called on a standby, whose snapshots do not name the transactions in progress'
      using errcode = 'object_not_in_prerequisite_state', hint = 'Load the list and its position from the primary.';
  end if;
  select greatest(
    (select e.xid from relay.events as e
      where pg_visible_in_snapshot(e.xid, snapshot) and e.xid is distinct from own
      order by e.xid desc limit 1),
    (select emptied_through from relay.installation)) into seen;
  return relay.position_text(
    relay.epoch(),
    coalesce(seen::text::bigint, 0) + 1,
    -- The caller's own events are not committed yet, so they are not seen.
    array(select xip::text::bigint from pg_snapshot_xip(snapshot) as xip where xip is distinct from own
          union all select own::text::bigint where own is not null));
end
$$;
comment on function relay.position() is 'What this statement sees, for a client to start from: select it in the same REPEATABLE READ transaction as the list, then connect with auth {token, position}.';
