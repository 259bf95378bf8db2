-- The history of version 0.1, in one table and a schema of its own, becomes one for the core and one for each pack.

alter table recado.migrations set schema relay;
create table relay.clinic_migrations (id serial primary key, name varchar(255) not null, run_on timestamp not null);
create table relay.whatsapp_migrations (id serial primary key, name varchar(255) not null, run_on timestamp not null);
comment on table relay.clinic_migrations is 'Which files of migrations/clinic/ ran here.';
comment on table relay.whatsapp_migrations is 'Which files of migrations/whatsapp/ ran here.';

insert into relay.clinic_migrations (name, run_on)
select '001_clinic_tables', run_on from relay.migrations where name = '002_clinic_tables';
-- Both, since own-chats.sql makes the tables of the first where 0.1 had not.
insert into relay.whatsapp_migrations (name, run_on)
select name, run_on
  from (select '001_chats' as name, min(run_on) as run_on from relay.migrations
        union all
        select '002_worker', run_on from relay.migrations where name = '004_evolution') as moved
 order by name;
delete from relay.migrations where name in ('002_clinic_tables', '003_whatsapp_tables', '004_evolution');
update relay.migrations set name = '002_limits' where name = '005_limits';

create table relay.packs (
  pack text primary key,
  makes_tables boolean not null,
  installed_at timestamptz not null default now(),
  constraint pack_is_known check (pack in ('clinic', 'whatsapp'))
);
-- 0.1 published the clinic's events on whatever tables of these names it found.
insert into relay.packs (pack, makes_tables)
select 'clinic', clinic_tables from recado.setup
 where clinic_tables or exists (select from relay.catalogue where event like 'doctors.%' or event like 'appoint%')
union all
select 'whatsapp', true;

-- The contract was in two files; it is a file for each event now.
delete from relay.applied_sql where file like 'clinic/02_contract.sql%' or file like 'evolution/03_contract.sql%';

drop schema recado cascade;
