-- What clients receive as an appointment.
--
--   relay_clinic.appointment(id)         the appointment as it is now, with doctor, patient, status and procedures
--   relay_clinic.appointment_schema()    its JSON Schema
--
-- In a schema of its own, since "clinic" may be the application's. Not a security definer: it runs with the rights
-- of the capture function that calls it, which are those of the owner of public.appointments.

create schema if not exists relay_clinic;
comment on schema relay_clinic is 'Recado: what the clinic''s contract is made of (sql/clinic/).';
grant usage on schema relay_clinic to public;

-- Clients know one procedure, as an object: {"procedure": {...}}. It is the one that was written first; where there
-- are more, they follow in "others", a list of such objects that clients may ignore. A price is a decimal in a
-- string, without trailing zeros. A missing doctor, patient or status is null.
create or replace function relay_clinic.appointment(id bigint) returns jsonb
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  select jsonb_build_object(
           'id', a.id,
           'date', relay.iso(a.date),
           'startTime', left(a."startTime"::text, 5),
           'endTime', left(a."endTime"::text, 5),
           'notes', a.notes,
           'accountId', a."accountId",
           'createdAt', relay.iso(a."createdAt"),
           'updatedAt', relay.iso(a."updatedAt"),
           'deletedAt', relay.iso(a."deletedAt"),
           'doctor', (select jsonb_build_object('id', d.id, 'name', d.name)
                        from public.doctors as d where d.id = a."doctorId"),
           'patient', (select jsonb_build_object('id', p.id, 'name', p.name, 'contact', jsonb_build_object('phone',
                                (select c.phone from public.contacts as c where c."patientId" = p.id)))
                         from public.patients as p where p.id = a."patientId"),
           'status', (select jsonb_build_object('id', s.id, 'name', s.name, 'color', s.color)
                        from public."appointmentStatuses" as s where s.id = a."statusId"),
           'appointmentProcedures', done.first || case when done.others = '[]' then '{}' else jsonb_build_object('others', done.others) end)
    from public.appointments as a,
         lateral (select coalesce(jsonb_agg(item order by place) -> 0, '{"procedure": null}') as first,
                         coalesce(jsonb_agg(item order by place) filter (where place > 1), '[]') as others
                    from (select row_number() over (order by ap.id) as place,
                                 jsonb_build_object('procedure', jsonb_build_object(
                                   'id', p.id, 'name', p.name, 'price', trim_scale(p.price)::text)) as item
                            from public."appointmentProcedures" as ap
                            join public.procedures as p on p.id = ap."procedureId"
                           where ap."appointmentId" = a.id) as procedures) as done
   where a.id = appointment.id
$$;
comment on function relay_clinic.appointment(bigint) is 'The appointment as clients of the clinic receive it; null where there is none.';

create or replace function relay_clinic.appointment_schema() returns jsonb
language sql immutable
set search_path = pg_catalog, pg_temp
as $$
  select jsonb '{
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
$$;
comment on function relay_clinic.appointment_schema() is 'JSON Schema of relay_clinic.appointment().';
revoke execute on function relay_clinic.appointment_schema() from public;
