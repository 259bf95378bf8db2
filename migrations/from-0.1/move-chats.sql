-- WhatsApp's tables of version 0.1 move from public into the schema evolution, with their rows, indexes, triggers,
-- privileges and policies. Both at once or neither: one after the other, an application that locks them in the other
-- order would wait for ever. A view of the old name stays where an application may read it. It reads with the rights
-- of whoever asks, so that policies hold.

lock table public.messages, public.chats in access exclusive mode nowait;
alter table public.chats set schema evolution;
alter table public.messages set schema evolution;
comment on column evolution.messages.whatsapp is 'Fields of the Evolution message that clients read (key, pushName, message, ...), without binaries.';

do $$
declare
  moved text;
  granted record;
begin
  if current_setting('server_version_num')::int < 150000 then
    -- Such a view would read with the rights of its owner, past every policy.
    return;
  end if;
  foreach moved in array '{chats, messages}'::text[] loop
    execute format('create view public.%1$I with (security_invoker = true) as select * from evolution.%1$I', moved);
    execute format('comment on view public.%1$I is %2$L', moved, 'The table is evolution.' || moved || ' now. Drop this view when nothing reads it any more.');
    for granted in
      select acl.grantee, acl.privilege_type
        from pg_class as c, aclexplode(c.relacl) as acl
       where c.oid = format('evolution.%I', moved)::regclass and acl.grantee <> c.relowner
         and acl.privilege_type in ('SELECT', 'INSERT', 'UPDATE', 'DELETE')
    loop
      execute format('grant %s on public.%I to %s', granted.privilege_type, moved,
        case granted.grantee when 0 then 'public' else granted.grantee::regrole::text end);
      execute format('grant usage on schema evolution to %s',
        case granted.grantee when 0 then 'public' else granted.grantee::regrole::text end);
    end loop;
  end loop;
end
$$;
