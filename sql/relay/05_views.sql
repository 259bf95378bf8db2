-- What a DBA reads.
--
--   relay.failures   captures that failed; the account was told to refetch instead

create or replace view relay.failures as
select e.created_at as failed_at,
       e.payload ->> 'event' as event,
       e.payload ->> 'table' as on_table,
       e.account_id,
       e.payload ->> 'sqlstate' as sqlstate,
       e.payload ->> 'error' as error,
       e.id as event_id
  from relay.events as e
 where e.event = 'relay:resync' and e.payload ->> 'reason' = 'capture_failed';
comment on view relay.failures is 'Events whose account or payload could not be computed, while events are kept. The write succeeded; the account (null: every account) got relay:resync.';
