-- Up Migration
--
-- A payload of some KiB costs a writer less with lz4 than with pglz, where the server is built with it.

do $$
declare
  part regclass;
begin
  if exists (select from pg_settings where name = 'default_toast_compression' and 'lz4' = any (enumvals)) then
    for part in select relid from pg_partition_tree('relay.events') loop
      execute format('alter table %s alter column payload set compression lz4', part);
    end loop;
  end if;
end
$$;
