-- Up Migration
--
-- A table that was renamed since it was published may be swapped under any name it has had.

alter table relay.catalogue add column if not exists known_as text[];
comment on column relay.catalogue.known_as is 'Names that on_table has had since it was published, besides table_name, as the relays saw them.';
