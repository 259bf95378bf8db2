-- What the clinic's screens hear: one call per event and operation.
--
--   doctors.created   doctors.updated   doctors.deleted   doctors.busy
--   appointments.checkin   appointments.serving   appointmnents.finished (spelled so; it is the name on the wire)
--
-- A doctor is on an account's list as long as the row has that accountId and no deletedAt. doctors.created says that
-- one came onto the list, doctors.deleted that one left it, in whatever way; doctors.updated and doctors.busy are
-- about those who stay on it. The doctor is the row with all its columns, instants as JavaScript writes them: list
-- columns instead where one is not for every client of the account.
--
-- Calls for further operations of an event share its description and schema.
--
-- Appointments are told at commit, because the rest of what is shown (procedures, contact) may be written after the
-- status. What counts is the status the row has then: several changes in one transaction are told as the last one.

select relay.publish(
  event => 'doctors.created',
  on_table => 'public.doctors',
  operation => 'INSERT',
  condition => $$new."deletedAt" is null$$,
  account => $$new."accountId"$$,
  payload => $$to_jsonb(new) || jsonb_build_object('createdAt', relay.iso(new."createdAt"), 'updatedAt', relay.iso(new."updatedAt"), 'deletedAt', null)$$,
  description => 'A doctor came onto the account''s list: new, restored, or from another account. Payload: the doctor.',
  payload_schema => '{
    "type": "object",
    "required": ["id", "accountId", "name", "isBusy", "createdAt", "updatedAt", "deletedAt"],
    "properties": {
      "id": {"type": "integer"},
      "accountId": {"type": "integer"},
      "name": {"type": "string"},
      "isBusy": {"type": "boolean"},
      "createdAt": {"type": "string", "format": "date-time"},
      "updatedAt": {"type": "string", "format": "date-time"},
      "deletedAt": {"type": "null"}
    }
  }'
);
select relay.publish(
  event => 'doctors.created',
  on_table => 'public.doctors',
  operation => 'UPDATE',
  condition => $$new."deletedAt" is null and (old."deletedAt" is not null or new."accountId" is distinct from old."accountId")$$,
  account => $$new."accountId"$$,
  payload => $$to_jsonb(new) || jsonb_build_object('createdAt', relay.iso(new."createdAt"), 'updatedAt', relay.iso(new."updatedAt"), 'deletedAt', null)$$
);

-- Being busy has an event of its own, and updatedAt alone (ORMs set it with every write) is no news.
select relay.publish(
  event => 'doctors.updated',
  on_table => 'public.doctors',
  operation => 'UPDATE',
  condition => $$old."deletedAt" is null and new."deletedAt" is null and new."accountId" is not distinct from old."accountId"
    and to_jsonb(new) - '{isBusy,updatedAt}'::text[] is distinct from to_jsonb(old) - '{isBusy,updatedAt}'::text[]$$,
  account => $$new."accountId"$$,
  payload => $$to_jsonb(new) || jsonb_build_object('createdAt', relay.iso(new."createdAt"), 'updatedAt', relay.iso(new."updatedAt"), 'deletedAt', null)$$,
  description => 'A doctor on the account''s list changed in something else than being busy. Payload: the doctor.',
  payload_schema => '{
    "type": "object",
    "required": ["id", "accountId", "name", "isBusy", "createdAt", "updatedAt", "deletedAt"],
    "properties": {
      "id": {"type": "integer"},
      "accountId": {"type": "integer"},
      "name": {"type": "string"},
      "isBusy": {"type": "boolean"},
      "createdAt": {"type": "string", "format": "date-time"},
      "updatedAt": {"type": "string", "format": "date-time"},
      "deletedAt": {"type": "null"}
    }
  }'
);

select relay.publish(
  event => 'doctors.deleted',
  on_table => 'public.doctors',
  operation => 'UPDATE',
  condition => $$old."deletedAt" is null and (new."deletedAt" is not null or new."accountId" is distinct from old."accountId")$$,
  account => $$old."accountId"$$,
  payload => $$to_jsonb(old.id)$$,
  description => 'A doctor left the account''s list: soft-deleted, deleted, or moved to another account. Payload: the id.',
  payload_schema => '{"type": "integer"}'
);
select relay.publish(
  event => 'doctors.deleted',
  on_table => 'public.doctors',
  operation => 'DELETE',
  condition => $$old."deletedAt" is null$$,
  account => $$old."accountId"$$,
  payload => $$to_jsonb(old.id)$$
);

-- TRUNCATE names no rows, so every account is told to refetch.
select relay.publish(event => 'doctors.deleted', on_table => 'public.doctors', operation => 'TRUNCATE');

select relay.publish(
  event => 'doctors.busy',
  on_table => 'public.doctors',
  operation => 'UPDATE',
  condition => $$old."deletedAt" is null and new."deletedAt" is null and new."accountId" is not distinct from old."accountId"
    and new."isBusy" is distinct from old."isBusy"$$,
  account => $$new."accountId"$$,
  payload => $$jsonb_build_object('id', new.id, 'isBusy', new."isBusy")$$,
  description => 'A doctor became busy or free. Payload: {id, isBusy}.',
  payload_schema => '{"type": "object", "required": ["id", "isBusy"], "properties": {"id": {"type": "integer"}, "isBusy": {"type": "boolean"}}}'
);

select relay.publish(
  event => 'appointments.checkin',
  on_table => 'public.appointments',
  operation => 'UPDATE',
  at => 'commit',
  condition => $$new."statusId" is distinct from old."statusId"$$,
  account => $$(select a."accountId" from public.appointments as a join public."appointmentStatuses" as s on s.id = a."statusId"
    where a.id = new.id and a."statusId" = new."statusId" and a."deletedAt" is null and s.code = 'CHECKIN')$$,
  payload => $$relay_clinic.appointment(new.id)$$,
  description => 'A patient has arrived: the status became CHECKIN. Payload: the appointment.',
  payload_schema => '{
    "type": "object",
    "required": ["id", "date", "startTime", "endTime", "notes", "accountId", "createdAt", "updatedAt", "deletedAt", "doctor", "patient", "status", "appointmentProcedures"],
    "properties": {
      "id": {"type": "integer"},
      "date": {"type": "string", "format": "date-time"},
      "startTime": {"type": "string", "examples": ["09:00"]},
      "endTime": {"type": "string", "examples": ["09:15"]},
      "notes": {"type": ["string", "null"]},
      "accountId": {"type": "integer"},
      "createdAt": {"type": "string", "format": "date-time"},
      "updatedAt": {"type": "string", "format": "date-time"},
      "deletedAt": {"type": ["string", "null"], "format": "date-time"},
      "doctor": {"type": ["object", "null"], "required": ["id", "name"], "properties": {"id": {"type": "integer"}, "name": {"type": "string"}}},
      "patient": {"type": ["object", "null"], "required": ["id", "name", "contact"], "properties": {"id": {"type": "integer"}, "name": {"type": "string"}, "contact": {"type": "object", "required": ["phone"], "properties": {"phone": {"type": ["string", "null"]}}}}},
      "status": {"type": ["object", "null"], "required": ["id", "name", "color"], "properties": {"id": {"type": "integer"}, "name": {"type": "string"}, "color": {"type": "string"}}},
      "appointmentProcedures": {
        "type": "object",
        "required": ["procedure"],
        "properties": {
          "procedure": {"type": ["object", "null"], "required": ["id", "name", "price"], "properties": {"id": {"type": "integer"}, "name": {"type": "string"}, "price": {"type": "string"}}},
          "others": {"type": "array", "items": {"type": "object", "required": ["procedure"]}}
        }
      }
    }
  }'
);
-- A patient who comes without an appointment gets one that begins with the check-in.
select relay.publish(
  event => 'appointments.checkin',
  on_table => 'public.appointments',
  operation => 'INSERT',
  at => 'commit',
  account => $$(select a."accountId" from public.appointments as a join public."appointmentStatuses" as s on s.id = a."statusId"
    where a.id = new.id and a."statusId" = new."statusId" and a."deletedAt" is null and s.code = 'CHECKIN')$$,
  payload => $$relay_clinic.appointment(new.id)$$
);

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
  payload_schema => '{
    "type": "object",
    "required": ["id", "date", "startTime", "endTime", "notes", "accountId", "createdAt", "updatedAt", "deletedAt", "doctor", "patient", "status", "appointmentProcedures"],
    "properties": {
      "id": {"type": "integer"},
      "date": {"type": "string", "format": "date-time"},
      "startTime": {"type": "string", "examples": ["09:00"]},
      "endTime": {"type": "string", "examples": ["09:15"]},
      "notes": {"type": ["string", "null"]},
      "accountId": {"type": "integer"},
      "createdAt": {"type": "string", "format": "date-time"},
      "updatedAt": {"type": "string", "format": "date-time"},
      "deletedAt": {"type": ["string", "null"], "format": "date-time"},
      "doctor": {"type": ["object", "null"], "required": ["id", "name"], "properties": {"id": {"type": "integer"}, "name": {"type": "string"}}},
      "patient": {"type": ["object", "null"], "required": ["id", "name", "contact"], "properties": {"id": {"type": "integer"}, "name": {"type": "string"}, "contact": {"type": "object", "required": ["phone"], "properties": {"phone": {"type": ["string", "null"]}}}}},
      "status": {"type": ["object", "null"], "required": ["id", "name", "color"], "properties": {"id": {"type": "integer"}, "name": {"type": "string"}, "color": {"type": "string"}}},
      "appointmentProcedures": {
        "type": "object",
        "required": ["procedure"],
        "properties": {
          "procedure": {"type": ["object", "null"], "required": ["id", "name", "price"], "properties": {"id": {"type": "integer"}, "name": {"type": "string"}, "price": {"type": "string"}}},
          "others": {"type": "array", "items": {"type": "object", "required": ["procedure"]}}
        }
      }
    }
  }'
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
  payload_schema => '{
    "type": "object",
    "required": ["id", "date", "startTime", "endTime", "notes", "accountId", "createdAt", "updatedAt", "deletedAt", "doctor", "patient", "status", "appointmentProcedures"],
    "properties": {
      "id": {"type": "integer"},
      "date": {"type": "string", "format": "date-time"},
      "startTime": {"type": "string", "examples": ["09:00"]},
      "endTime": {"type": "string", "examples": ["09:15"]},
      "notes": {"type": ["string", "null"]},
      "accountId": {"type": "integer"},
      "createdAt": {"type": "string", "format": "date-time"},
      "updatedAt": {"type": "string", "format": "date-time"},
      "deletedAt": {"type": ["string", "null"], "format": "date-time"},
      "doctor": {"type": ["object", "null"], "required": ["id", "name"], "properties": {"id": {"type": "integer"}, "name": {"type": "string"}}},
      "patient": {"type": ["object", "null"], "required": ["id", "name", "contact"], "properties": {"id": {"type": "integer"}, "name": {"type": "string"}, "contact": {"type": "object", "required": ["phone"], "properties": {"phone": {"type": ["string", "null"]}}}}},
      "status": {"type": ["object", "null"], "required": ["id", "name", "color"], "properties": {"id": {"type": "integer"}, "name": {"type": "string"}, "color": {"type": "string"}}},
      "appointmentProcedures": {
        "type": "object",
        "required": ["procedure"],
        "properties": {
          "procedure": {"type": ["object", "null"], "required": ["id", "name", "price"], "properties": {"id": {"type": "integer"}, "name": {"type": "string"}, "price": {"type": "string"}}},
          "others": {"type": "array", "items": {"type": "object", "required": ["procedure"]}}
        }
      }
    }
  }'
);
select relay.publish(event => 'appointmnents.finished', on_table => 'public.appointments', operation => 'TRUNCATE');
