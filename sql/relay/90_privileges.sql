-- Who may do what. Runs last, because it covers everything that the other files have made.
--
--   relay_owner    owns everything except capture functions, which belong to the owners of their tables; cannot log in
--   relay_reader   what the relay's own login needs:      grant relay_reader to <its role>
--   relay_admin    may change the contract:               grant relay_admin to <a DBA's role>
--   everybody      relay.position() and relay.iso()
--   relay.admit(role)   lets an application emit events; relay.admit_capture(role) lets a role own capture functions
--
--   relay.secure()      sets these rights. It changes only what differs, so it takes no lock if nothing does
--
-- Roles belong to the cluster, so another database may have created them, or be creating them now. A migrating role
-- that may not create roles or give objects away stays the owner; a warning says what to run by hand.

create or replace function relay.secure() returns void
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
declare
  everybody_calls text[] := '{position, iso}';

  reader_reads text[] := '{events, catalogue, installation, revocations, applied_sql, left_out, failures, contract, status, unpublished}';
  reader_calls text[] := '{settle_epoch, new_epoch, refetch_all, epoch, fingerprint, witness, rotate, notice_swaps, empty_slot, slot_at, leave_out, take_back, gate_key}'::text[]
    -- The parts of the views and of relay.check(), since functions in a view run with the rights of its reader.
    || '{trigger_name, capture_name, publish_call, quote_text, triggered_tables, table_named, current_table, fires_when, schema_of, schema_of_row, schema_of_column, schema_of_type, sample, slots, preview, try_expression}'::text[]
    || '{check, check_outbox, check_locks, check_disk, check_triggers, check_expressions, check_events, expression_failure, gives_array}'::text[];

  admin_changes text[] := '{catalogue}';
  -- In addition to what a reader has: all functions, too.

  me text := quote_ident(current_user);
  role_name text;
  found record;
  by_hand text[] := '{}';
begin
  -- Roles.
  foreach role_name in array '{relay_owner, relay_reader, relay_admin}'::text[] loop
    if to_regrole(role_name) is null then
      begin
        execute format('create role %I nologin', role_name);
      exception
        when duplicate_object or unique_violation then null; -- made at this moment from another database
        when insufficient_privilege then
          by_hand := by_hand || format('create role %I nologin;', role_name);
      end;
    end if;
  end loop;

  -- Ownership.
  if to_regrole('relay_owner') is null or not relay.become_owner() then
    by_hand := by_hand || format('grant relay_owner to %s;', me);
  else
    for found in
      select format('table %s', c.oid::regclass) as object, c.relkind = 'p' as first
        from pg_class as c
       where c.relnamespace in ('relay'::regnamespace, 'relay_capture'::regnamespace) and c.relkind in ('r', 'p', 'v', 'm')
         and c.relowner <> 'relay_owner'::regrole
      union all
      select format('routine %s', p.oid::regprocedure), false
        from pg_proc as p
       where p.pronamespace = 'relay'::regnamespace and p.proowner <> 'relay_owner'::regrole
      union all
      select format('domain %s', t.oid::regtype), false
        from pg_type as t
       where t.typnamespace = 'relay'::regnamespace and t.typtype = 'd' and t.typowner <> 'relay_owner'::regrole
       order by first desc, object
    loop
      execute format('alter %s owner to relay_owner', found.object);
    end loop;
  end if;

  -- Everybody. Postgres grants every new function to everybody, so this mostly revokes.
  for found in
    select p.oid::regprocedure as routine, p.proname = any (everybody_calls) as allowed
      from pg_proc as p
     where p.pronamespace = 'relay'::regnamespace
       and (p.proname = any (everybody_calls)) <> exists (
             select from aclexplode(coalesce(p.proacl, acldefault('f', p.proowner))) as acl
              where acl.grantee = 0 and acl.privilege_type = 'EXECUTE')
  loop
    if found.allowed then
      execute format('grant execute on routine %s to public', found.routine);
    else
      execute format('revoke execute on routine %s from public', found.routine);
    end if;
  end loop;
  if not exists (select from pg_namespace as n, aclexplode(n.nspacl) as acl
                  where n.nspname = 'relay' and acl.grantee = 0 and acl.privilege_type = 'USAGE') then
    grant usage on schema relay to public;
  end if;

  -- The two roles.
  for found in
    select role, privilege, format('table %s', c.oid::regclass) as object
      from pg_class as c
      join (select 'relay_reader' as role, 'select' as privilege, unnest(reader_reads) as name
            union all
            select 'relay_admin', 'select', unnest(reader_reads)
            union all
            select 'relay_admin', privilege, unnest(admin_changes) from unnest('{insert,update,delete}'::text[]) as privilege) as granted
        on c.relname = granted.name
     where c.relnamespace = 'relay'::regnamespace and to_regrole(role) is not null
       and not has_table_privilege(role, c.oid, privilege)
    union all
    select role, 'execute', format('routine %s', p.oid::regprocedure)
      from pg_proc as p, unnest('{relay_reader, relay_admin}'::text[]) as role
     where p.pronamespace = 'relay'::regnamespace and to_regrole(role) is not null
       and (role = 'relay_admin' or p.proname = any (reader_calls))
       and not has_function_privilege(role, p.oid, 'execute')
    union all
    select 'relay_admin', privilege, 'schema relay_capture'
      from unnest('{usage, create}'::text[]) as privilege
     where to_regrole('relay_admin') is not null and not has_schema_privilege('relay_admin', 'relay_capture', privilege)
  loop
    execute format('grant %s on %s to %I', found.privilege, found.object, found.role);
  end loop;

  -- Roles admitted before relay.emit() took an audience.
  for found in
    select pg_get_userbyid(acl.grantee) as role
      from pg_proc as p, aclexplode(p.proacl) as acl
     where p.oid = 'relay.emit(text, text, jsonb)'::regprocedure and acl.privilege_type = 'EXECUTE' and acl.grantee not in (0, p.proowner)
       and not has_function_privilege(acl.grantee, 'relay.emit(text, text, jsonb, text[])', 'execute')
  loop
    perform relay.admit(found.role);
  end loop;

  if by_hand <> '{}' then
    raise warning 'Recado works, but % owns the schema relay instead of a role that cannot log in. Have a superuser run: % select relay.secure();',
      me, array_to_string(by_hand, ' ');
  end if;
end
$$;
comment on function relay.secure() is 'Gives the schema relay to relay_owner and sets the privileges of relay_reader, relay_admin and everybody. Run by recado migrate; run it again after creating the roles by hand.';

-- Returns true if relay_owner owns the schemas, so that their content can be given to it. That requires membership,
-- which the creator of relay_owner may grant itself, and a temporary right of relay_owner to create schemas.
create or replace function relay.become_owner() returns boolean
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
declare
  schema_name text;
  may_create boolean;
begin
  if not pg_has_role(current_user, 'relay_owner', 'USAGE') then
    execute format('grant relay_owner to %I', current_user);
  end if;
  foreach schema_name in array '{relay, relay_capture}'::text[] loop
    if (select nspowner from pg_namespace where nspname = schema_name) <> 'relay_owner'::regrole then
      may_create := has_database_privilege('relay_owner', current_database(), 'CREATE');
      if not may_create then
        execute format('grant create on database %I to relay_owner', current_database());
      end if;
      execute format('alter schema %I owner to relay_owner', schema_name);
      if not may_create then
        execute format('revoke create on database %I from relay_owner', current_database());
      end if;
    end if;
  end loop;
  return true;
exception
  when insufficient_privilege then return false;
end
$$;
comment on function relay.become_owner() is 'Part of relay.secure(): gives the schemas to relay_owner; returns false if the caller may not.';

select relay.secure();
