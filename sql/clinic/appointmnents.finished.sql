-- Also when the same write soft-deletes it: the list must lose it. FINALIZADO frees the doctor too, see 01_rules.sql.
select relay.publish(
  event => 'appointmnents.finished',
  on_table => 'public.appointments',
  operation => 'UPDATE',
  at => 'commit',
  condition => $$new."statusId" is distinct from old."statusId"$$,
  account => $$(select a."accountId" from public.appointments as a join public."appointmentStatuses" as s on s.id = a."statusId"
    where a.id = new.id and a."statusId" = new."statusId" and s.code in ('FINALIZADO', 'CANCELADO'))$$,
  payload => $$relay_clinic.appointment(new.id)$$,
  description => 'An appointment is over: the status became FINALIZADO or CANCELADO. Payload: the appointment.',
  payload_schema => relay_clinic.appointment_schema()
);

select relay.publish(event => 'appointmnents.finished', on_table => 'public.appointments', operation => 'TRUNCATE');
