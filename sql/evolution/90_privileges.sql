-- What a relay may do with the worker's tables: read the state of instances and ask for a sync, never read a key. And
-- what the worker may do with the relay's.
--
--   relay_reader       evolution.overview, the columns of instances that say whose one is, sync_requests
--   recado_evolution   what the worker's own login needs: grant recado_evolution to <its role>. The tables were granted
--                      where they were made; here, that it sees whether Recado is installed

do $$
begin
  if to_regrole('relay_reader') is null then
    return;
  end if;
  if not has_schema_privilege('relay_reader', 'evolution', 'usage') then
    grant usage on schema evolution to relay_reader;
  end if;
  if not has_table_privilege('relay_reader', 'evolution.overview', 'select') then
    grant select on evolution.overview to relay_reader;
  end if;
  if not has_column_privilege('relay_reader', 'evolution.instances', 'name', 'select') then
    grant select (id, name, "tenantId") on evolution.instances to relay_reader;
  end if;
  if not has_table_privilege('relay_reader', 'evolution.sync_requests', 'update') then
    grant select, update on evolution.sync_requests to relay_reader;
  end if;
  if not has_function_privilege('relay_reader', 'evolution.request_sync(text,text)', 'execute') then
    grant execute on function evolution.request_sync(text,text) to relay_reader;
  end if;
end
$$;

do $$
begin
  if to_regrole('recado_evolution') is not null
     and not has_table_privilege('recado_evolution', 'relay.installation', 'select') then
    grant select on relay.installation to recado_evolution;
  end if;
end
$$;
