-- What the database does by itself when the clinic's rows change.
--
--   relay_clinic.free_doctor()   trigger: the doctor of an appointment that becomes FINALIZADO is busy no longer
--
-- In the transaction of the change, so nobody sees the one without the other; the doctor's own event follows from it.

create schema if not exists relay_clinic;

-- Writers of appointments need no right to write doctors: the function belongs to the owner of that table.
-- A column or table that is not there (any more) must not fail the write: it is recorded, and the account told to
-- refetch. Locks, deadlocks and serialization failures are errors of the write, which its writer repeats.
create or replace function relay_clinic.free_doctor() returns trigger
language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp set row_security = off
as $$
declare
  failure text;
begin
  if exists (select from public."appointmentStatuses" as s where s.id = new."statusId" and s.code = 'FINALIZADO') then
    update public.doctors set "isBusy" = false where id = new."doctorId" and "isBusy";
  end if;
  return null;
exception when syntax_error_or_access_rule_violation then
  get stacked diagnostics failure = message_text;
  insert into relay.events (account_id, event, payload)
  values (to_jsonb(new) ->> 'accountId', 'relay:resync', jsonb_build_object('event', 'doctors.busy',
    'table', 'public.appointments', 'reason', 'capture_failed', 'sqlstate', sqlstate, 'error', failure));
  return null;
end
$$;
comment on function relay_clinic.free_doctor() is 'Trigger of public.appointments: sets isBusy of the doctor to false when the status changes to FINALIZADO.';

do $$
declare
  doctors_owner name := (select pg_get_userbyid(relowner) from pg_class where oid = 'public.doctors'::regclass);
begin
  -- A function's body is not looked at before it runs. This says now what is missing.
  perform d.id, d."isBusy" from public.doctors as d where false;
  perform s.id, s.code from public."appointmentStatuses" as s where false;
  perform a."doctorId", a."statusId" from public.appointments as a where false;

  if pg_has_role(current_user, doctors_owner, 'MEMBER')
     and (select proowner::regrole::text from pg_proc where oid = 'relay_clinic.free_doctor()'::regprocedure) <> quote_ident(doctors_owner) then
    perform relay.admit_capture(doctors_owner);
    execute format('grant create on schema relay_clinic to %I', doctors_owner);
    execute format('alter function relay_clinic.free_doctor() owner to %I', doctors_owner);
  end if;
  if not exists (select from pg_trigger where tgrelid = 'public.appointments'::regclass and tgname = 'relay_clinic/free_doctor') then
    create trigger "relay_clinic/free_doctor" after update on public.appointments for each row
      when (new."statusId" is distinct from old."statusId")
      execute function relay_clinic.free_doctor();
    comment on trigger "relay_clinic/free_doctor" on public.appointments is 'Recado: FINALIZADO makes the doctor free.';
  end if;
end
$$;
revoke all on function relay_clinic.free_doctor() from public;
