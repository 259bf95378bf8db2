-- Up Migration
--
-- An event may be of several tables: of the same name in the schema of each tenant, for example.

alter table relay.catalogue add column if not exists number int not null default 1;
alter table relay.catalogue drop constraint catalogue_pkey, add primary key (event, operation, number);
comment on column relay.catalogue.number is 'Which of the event''s tables it is. From 2 on it is part of the names of trigger and function.';
