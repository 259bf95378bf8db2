-- Up Migration
--
-- The name a table was published for, by which its swap or its return after a restore is known, and the table that
-- has taken the name, once the accounts were told to refetch for it.

alter table relay.catalogue add column table_name text;
alter table relay.catalogue add column told_of oid;
update relay.catalogue as c set table_name = format('%I.%I', n.nspname, t.relname)
  from pg_class as t join pg_namespace as n on n.oid = t.relnamespace
 where t.oid = c.on_table;
comment on column relay.catalogue.table_name is 'The name on_table was published for. Where another table has it now, on_table was swapped or made again.';
comment on column relay.catalogue.told_of is 'The table that has the name now and has no trigger, once every account was told to refetch.';

create table relay.unpublished (
  event text primary key,
  unpublished_at timestamptz not null default now()
);
comment on table relay.unpublished is 'Events that were in the contract: what was recorded of them before is no fault. Written by relay.unpublish().';
