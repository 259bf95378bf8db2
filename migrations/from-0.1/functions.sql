-- The worker's functions name the tables. They change together with them, so that a worker that runs meanwhile goes on.
do $$
declare
  definition text;
begin
  for definition in
    select pg_get_functiondef(p.oid) from pg_proc as p
     where p.pronamespace = 'evolution'::regnamespace and p.prosrc ~ 'public\.(chats|messages)\M'
  loop
    execute regexp_replace(definition, 'public\.(chats|messages)\M', 'evolution.\1', 'g');
  end loop;
end
$$;
