-- Positions: what a reader has seen, as a snapshot of transactions.
--
--   relay.fingerprint()      tells this database from others
--   relay.settle_epoch()     called by a relay whenever it connects: a changed database gets a new epoch
--   relay.epoch()            the history of these transaction ids; raises until a relay has settled it
--   relay.new_epoch(epoch)   invalidates every position, and empties the outbox: it has another history
--   relay.refetch_all(epoch) invalidates every position in the same history
--   relay.note_removal(), relay.note_truncation()   triggers: removing events by hand also invalidates every
--                            position
--   relay.witness(time)      the digits of a time that a position carries
--   relay.position_text()    snapshot -> text; relay/outbox/position.ts reads and writes the same
--   relay.position()         for an application: the position of the list it is just loading
--
-- The text is epoch-xmax_witness.d.d.d in hexadecimal, where the transactions in progress follow as distances, largest
-- first: d = xmax - xip[1], xip[1] - xip[2], ...
--
-- The cut. After a crash Postgres reuses the ids of transactions whose end was not on disk. So a position names
-- nothing above the largest transaction that wrote an event it has seen: that one is on disk.
--
-- The witness. After a restore, ids of transactions and events repeat but times do not. So a position carries six
-- digits of the time of the last event of its largest transaction, xmax - 1.

create or replace function relay.fingerprint() returns text
language sql stable security definer
set search_path = pg_catalog, pg_temp
as $$
  -- The timeline comes from the name of a WAL file, since the control file's is minutes late after a promotion.
  -- The oids reveal a dump that was restored into the same cluster.
  select left(encode(sha256(convert_to(concat_ws(' ',
           installation.id,
           (select system_identifier from pg_control_system()),
           left(pg_walfile_name(pg_current_wal_lsn()), 8),
           (select oid from pg_database where datname = current_database()),
           'relay.events'::regclass::oid), 'UTF8')), 'hex'), 12)
    from relay.installation;
$$;
comment on function relay.fingerprint() is 'Changes when the database is restored, copied or failed over. Two of its standbys may have the same.';

create or replace function relay.new_epoch(expected text default null) returns text
language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  settled text;
  emptied xid8;
  removed bigint;
begin
  select epoch into settled from relay.installation for update;
  -- Another relay was faster.
  if settled <> expected then
    return settled;
  end if;
  perform set_config('relay.removing', 'on', true);
  -- DELETE instead of TRUNCATE: no writer waits, and uncommitted events of the new epoch stay.
  if settled is not null then
    raise notice 'relay.new_epoch(): removing the events of epoch %, % with their indexes', settled,
      (select pg_size_pretty(sum(pg_total_relation_size(t.relid))) from pg_partition_tree('relay.events') as t where t.isleaf);
    with gone as (delete from relay.events returning xid)
    -- max(xid8) is not in every Postgres.
    select count(*), (max(xid::text::bigint) filter (where pg_visible_in_snapshot(xid, pg_current_snapshot())))::text::xid8
      into removed, emptied from gone;
    raise notice 'relay.new_epoch(): % events are removed, all clients refetch', removed;
    delete from relay.left_out;
  end if;
  update relay.installation
     set epoch = left(replace(gen_random_uuid()::text, '-', ''), 12),
         fingerprint = relay.fingerprint(),
         emptied_through = case when settled is null then emptied_through else emptied end,
         emptied_in = case when settled is null then emptied_in when emptied is not null then pg_current_snapshot() end,
         emptied_witness = case when settled is null then emptied_witness end
  returning epoch into settled;
  return settled;
end
$$;
comment on function relay.new_epoch(text) is 'Invalidates every position given out so far; all clients refetch. Call it after restoring a storage snapshot while all relays were down. With an epoch: only if that is still the current one.';

create or replace function relay.refetch_all(expected text) returns void
language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp
as $$
begin
  update relay.installation set epoch = left(replace(gen_random_uuid()::text, '-', ''), 12) where epoch = expected;
  if found then
    delete from relay.left_out;
  end if;
end
$$;
comment on function relay.refetch_all(text) is 'Called by a relay that has skipped events: begins another epoch of the same history, so that all clients refetch. Events stay. Only if the given epoch is still the current one.';

create or replace function relay.settle_epoch() returns text
language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  installed relay.installation;
begin
  select * into installed from relay.installation;
  if installed.fingerprint is distinct from relay.fingerprint() then
    -- Read again under the lock: several relays may notice the change at once, and must agree.
    select * into installed from relay.installation for update;
    if installed.fingerprint is distinct from relay.fingerprint() then
      return relay.new_epoch();
    end if;
  end if;
  return installed.epoch;
end
$$;
comment on function relay.settle_epoch() is 'Called by a relay when it connects, and by recado migrate: returns the epoch. If the database was restored, copied or failed over, it makes a new epoch and empties the outbox.';

create or replace function relay.epoch() returns text
language plpgsql stable security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  installed relay.installation;
begin
  select * into installed from relay.installation;
  if installed.fingerprint is distinct from relay.fingerprint() then
    raise exception 'This database was restored, copied or failed over, and no relay has connected to it since'
      using errcode = 'object_not_in_prerequisite_state', hint = 'Start a relay, or: select relay.settle_epoch()';
  end if;
  return installed.epoch;
end
$$;
comment on function relay.epoch() is 'Identifies the history of these transaction ids: it changes when the database is restored, copied or failed over. Raises until a relay has noticed that.';

create or replace function relay.note_removal() returns trigger
language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp
as $$
begin
  if coalesce(current_setting('relay.removing', true), '') <> 'on' and exists (select from gone) then
    perform relay.new_epoch();
  end if;
  return null;
end
$$;
comment on function relay.note_removal() is 'Trigger of relay.events and its partitions: deleting events by hand makes every client refetch. A new epoch deletes them under relay.removing.';

create or replace function relay.note_truncation() returns trigger
language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp
as $$
begin
  if coalesce(current_setting('relay.removing', true), '') <> 'on' then
    perform relay.new_epoch();
  end if;
  return null;
end
$$;
comment on function relay.note_truncation() is 'Trigger of relay.events and its partitions: truncating them by hand makes every client refetch. Retention truncates them under relay.removing.';

do $$
declare
  events_table regclass;
begin
  for events_table in
    select 'relay.events'::regclass union all select inhrelid from pg_inherits where inhparent = 'relay.events'::regclass
  loop
    if not exists (select from pg_trigger where tgrelid = events_table and tgname = 'note_removal') then
      execute format('create trigger note_removal after delete on %s referencing old table as gone for each statement execute function relay.note_removal()', events_table);
      execute format('create trigger note_truncation after truncate on %s for each statement execute function relay.note_truncation()', events_table);
    end if;
  end loop;
end
$$;

create or replace function relay.witness(moment timestamptz) returns text
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  select lpad(to_hex((round(date_part('epoch', moment) * 1000000)::bigint & 16777215)::int), 6, '0');
$$;
comment on function relay.witness(timestamptz) is 'The last 24 bits of a time in microseconds, in hexadecimal.';

create or replace function relay.position_text(epoch text, xmax bigint, witness text, in_progress bigint[]) returns text
language sql immutable
set search_path = pg_catalog, pg_temp
as $$
  select position_text.epoch || '-' || to_hex(xmax) || coalesce('_' || witness, '')
         || coalesce(string_agg('.' || to_hex(distance), '' order by xid desc), '')
    from (select xid, coalesce(lag(xid) over (order by xid desc), xmax) - xid as distance
            from unnest(in_progress) as xid where xid < xmax) as below;
$$;
comment on function relay.position_text(text, bigint, text, bigint[]) is 'The text form of a position.';

-- STABLE, so that it sees what the calling statement sees: as VOLATILE it lost an event.
create or replace function relay.position() returns text
language plpgsql stable security definer
set search_path = pg_catalog, pg_temp set enable_seqscan = off set jit = off
as $$
declare
  snapshot pg_snapshot := pg_current_snapshot();
  own xid8 := pg_current_xact_id_if_assigned();
  seen xid8;
  witness text;
  emptied relay.installation;
begin
  if pg_is_in_recovery() then
    raise exception 'relay.position() was called on a standby, whose snapshots do not name the transactions in progress'
      using errcode = 'object_not_in_prerequisite_state', hint = 'Load the list and its position from the primary.';
  end if;
  select e.xid, relay.witness(e.created_at) into seen, witness from relay.events as e
   where pg_visible_in_snapshot(e.xid, snapshot) and e.xid is distinct from own
   order by e.xid desc, e.id desc limit 1;
  select * into emptied from relay.installation;
  if seen is null or seen < emptied.emptied_through then
    seen := emptied.emptied_through;
    witness := emptied.emptied_witness;
  end if;
  return relay.position_text(
    relay.epoch(),
    coalesce(seen::text::bigint, 0) + 1,
    witness,
    -- The caller's own events are not committed yet, so they are not seen.
    array(select xip::text::bigint from pg_snapshot_xip(snapshot) as xip where xip is distinct from own
          union all select own::text::bigint where own is not null));
end
$$;
comment on function relay.position() is 'What this statement sees, for a client to start from: select it in the same REPEATABLE READ transaction as the list, then connect with auth {token, position}.';
