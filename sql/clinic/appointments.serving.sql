select relay.publish(
  event => 'appointments.serving',
  on_table => 'public.appointments',
  operation => 'UPDATE',
  at => 'commit',
  condition => $$new."statusId" is distinct from old."statusId"$$,
  account => $$(select a."accountId" from public.appointments as a join public."appointmentStatuses" as s on s.id = a."statusId"
    where a.id = new.id and a."statusId" = new."statusId" and a."deletedAt" is null and s.code = 'EM_ATENDIMENTO')$$,
  payload => $$relay_clinic.appointment(new.id)$$,
  description => 'A patient was called in: the status became EM_ATENDIMENTO. Payload: the appointment.',
  payload_schema => relay_clinic.appointment_schema()
);

select relay.publish(
  event => 'appointments.serving',
  on_table => 'public.appointments',
  operation => 'INSERT',
  at => 'commit',
  account => $$(select a."accountId" from public.appointments as a join public."appointmentStatuses" as s on s.id = a."statusId"
    where a.id = new.id and a."statusId" = new."statusId" and a."deletedAt" is null and s.code = 'EM_ATENDIMENTO')$$,
  payload => $$relay_clinic.appointment(new.id)$$
);
