-- Which worker holds which instance, and how the application and the workers call each other.
--
--   evolution.notify_workers()                trigger: tells the workers that something is to be done
--   evolution.claim(worker, host, pid, ...)   a worker's poll: says it is alive, keeps, takes and gives up instances
--   evolution.leave(worker)                   gives up everything
--   evolution.request_sync(name, tenant)      asks for an instance to be read again
--   evolution.overview                        instances without their keys
--
-- NOTIFY only saves time: workers poll once a second.

create or replace function evolution.notify_workers() returns trigger
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
begin
  perform pg_notify('evolution', '');
  return null;
end
$$;
comment on function evolution.notify_workers() is 'Trigger: wakes the workers.';

do $$
begin
  -- The name they had before 0.2.
  if to_regproc('evolution.ring') is not null then
    drop function evolution.ring() cascade;
  end if;
  if not exists (select from pg_trigger where tgrelid = 'evolution.instances'::regclass and tgname = 'notify_workers') then
    create trigger notify_workers after insert or delete on evolution.instances for each row execute function evolution.notify_workers();
    create trigger notify_workers_of_a_change after update on evolution.instances for each row
      when ((old.name, old."tenantId", old.host, old."apiKey", old.desired, old.mode, old.skip)
            is distinct from (new.name, new."tenantId", new.host, new."apiKey", new.desired, new.mode, new.skip))
      execute function evolution.notify_workers();
    create trigger notify_workers after insert on evolution.outgoing for each statement execute function evolution.notify_workers();
    create trigger notify_workers after insert or update on evolution.receipts for each statement execute function evolution.notify_workers();
    create trigger notify_workers after insert on evolution.sync_requests for each row execute function evolution.notify_workers();
  end if;
end
$$;

create or replace function evolution.claim(me uuid, my_host text, my_pid integer, lease interval default '6 seconds')
returns table (
  id bigint, name text, "tenantId" text, host text, "apiKey" text, mode text, skip text[], "ownJid" text,
  source_id bigint, caught_up_to timestamptz, synced boolean, older_until timestamptz, older_total bigint, server_id text,
  may_send boolean, may_mark_read boolean, sends_per_minute integer, has_outgoing boolean, has_receipts boolean, sync_request bigint)
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
  fair_share bigint;
  held bigint;
begin
  insert into evolution.workers (id, host, pid) values (me, my_host, my_pid)
  on conflict (id) do update set "seenAt" = clock_timestamp();
  delete from evolution.workers as w where w."seenAt" < clock_timestamp() - 10 * lease;

  select ceil(count(*)::numeric / greatest(1, (
           select count(*) from evolution.workers as w where w."seenAt" >= clock_timestamp() - lease)))
    into fair_share from evolution.instances as i where i.desired = 'connected';

  delete from evolution.leases as l using evolution.instances as i
   where l.worker_id = me and i.id = l.instance_id and i.desired <> 'connected';
  delete from evolution.leases as l
   where l.worker_id = me and l.instance_id in (
     select x.instance_id from evolution.leases as x where x.worker_id = me order by x.instance_id offset fair_share);
  update evolution.leases as l set until = clock_timestamp() + lease where l.worker_id = me;
  select count(*) into held from evolution.leases as l where l.worker_id = me;

  if held < fair_share then
    insert into evolution.leases as l (instance_id, worker_id, until)
    select i.id, me, clock_timestamp() + lease
      from evolution.instances as i
     where i.desired = 'connected'
       and not exists (select from evolution.leases as x where x.instance_id = i.id and x.until >= clock_timestamp())
     order by i.id
     limit fair_share - held
    on conflict (instance_id) do update set worker_id = excluded.worker_id, until = excluded.until
      where l.until < clock_timestamp();
  end if;

  insert into evolution.sources ("tenantId", name, live_from)
  select i."tenantId", i.name, date_trunc('second', i."createdAt") from evolution.instances as i join evolution.leases as l on l.instance_id = i.id
   where l.worker_id = me
     and not exists (select from evolution.sources as s where s."tenantId" = i."tenantId" and s.name = i.name)
  on conflict do nothing;

  return query
    select i.id, i.name, i."tenantId", i.host, i."apiKey", i.mode, i.skip, i."ownJid",
           s.id, s.caught_up_to, s.synced_at is not null, s.older_until, s.older_total, s.server_id, i."maySend", i."mayMarkRead", i."sendsPerMinute",
           exists (select from evolution.outgoing as o
                    where o."tenantId" = i."tenantId" and o."instanceName" = i.name and o.status in ('QUEUED', 'SENDING')),
           exists (select from evolution.receipts as p join evolution.chats as c on c.id = p.chat_id
                    where c."tenantId" = i."tenantId" and c."instanceName" = i.name),
           r.id
      from evolution.leases as l
      join evolution.instances as i on i.id = l.instance_id
      join evolution.sources as s on s."tenantId" = i."tenantId" and s.name = i.name
      left join evolution.sync_requests as r on r.instance_id = i.id and r.state = 'queued'
     where l.worker_id = me and i.desired = 'connected'
     order by i.id;
end
$$;
comment on function evolution.claim(uuid, text, integer, interval) is 'Called by every worker about once a second: keeps its leases, gives up what is more than its fair share, takes what is free, and answers with what it holds.';

create or replace function evolution.leave(me uuid) returns void
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
begin
  update evolution.instances as i set status = 'disconnected', "statusReason" = null, "statusAt" = now()
   where i.id in (select l.instance_id from evolution.leases as l where l.worker_id = me);
  delete from evolution.leases as l where l.worker_id = me;
  delete from evolution.workers as w where w.id = me;
  perform pg_notify('evolution', '');
end
$$;
comment on function evolution.leave(uuid) is 'Gives up everything a worker holds, so that others take it at once.';

-- After five minutes nobody waits for a request that no worker took: it is marked as failed.
create or replace function evolution.request_sync(instance text, tenant text default null) returns bigint
language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  wanted evolution.instances;
  request bigint;
begin
  begin
    select i.* into strict wanted from evolution.instances as i
     where i.name = request_sync.instance and i."tenantId" = coalesce(request_sync.tenant, i."tenantId");
  exception
    when no_data_found then null;
    when too_many_rows then
      raise exception 'several tenants have an instance %', quote_literal(instance)
        using errcode = 'cardinality_violation', hint = 'select evolution.request_sync(name, tenant)';
  end;
  if wanted.id is null then
    raise exception 'there is no instance %', quote_nullable(instance)
      using errcode = 'no_data_found', hint = 'select name from evolution.overview lists them; case counts.';
  end if;
  if wanted.desired <> 'connected' then
    raise exception 'instance % is switched off', quote_literal(instance)
      using errcode = 'object_not_in_prerequisite_state', hint = 'update evolution.instances set desired = ''connected'' where name = ...';
  end if;
  update evolution.sync_requests as r
     set state = 'failed', error_code = 'sync_not_taken', error = 'no worker took the request', finished_at = now()
   where r.instance_id = wanted.id and r.state = 'queued' and r.requested_at < now() - interval '5 minutes';
  insert into evolution.sync_requests (instance_id) values (wanted.id)
  on conflict (instance_id) where state in ('queued', 'running') do nothing
  returning id into request;
  if request is null then
    raise exception 'a sync of % is already running', quote_literal(instance)
      using errcode = 'object_in_use', hint = 'select * from evolution.sync_requests where finished_at is null';
  end if;
  return request;
end
$$;
comment on function evolution.request_sync(text, text) is 'Asks the workers to read an instance''s chats and messages again; the result appears in evolution.sync_requests under the number returned. The tenant is needed only where several have an instance of that name.';

create or replace view evolution.overview as
select i.id, i.name, i."tenantId", i.host, i.desired,
       case when l.instance_id is null then 'disconnected' else i.status end as status,
       case when l.instance_id is null and i.desired = 'connected' then 'no worker holds it' else i."statusReason" end as "statusReason", i."statusAt", i.state, i."stateReason",
       i."ownJid", i."profileName", s.caught_up_to, s.synced_at, w.host as worker_host, w.pid as worker_pid,
       (select count(*) from evolution.parked as p where p.source_id = s.id) as parked,
       (select count(*) from evolution.rejected as r where r."tenantId" = i."tenantId" and r."instanceName" = i.name) as rejected
  from evolution.instances as i
  left join evolution.sources as s on s."tenantId" = i."tenantId" and s.name = i.name
  left join evolution.leases as l on l.instance_id = i.id and l.until >= clock_timestamp()
  left join evolution.workers as w on w.id = l.worker_id;
comment on view evolution.overview is 'The instances and their state, without their keys.';
