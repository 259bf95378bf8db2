-- Two sample clinics for `recado start` on its embedded Postgres. Loaded once, into empty tables.
-- Ids are small and fixed, so that examples can name them; what is inserted later begins at 1000.

insert into public.accounts (id, name) values
  (1, 'Clínica Boa Vista'),
  (2, 'Clínica Aurora');

insert into public.doctors (id, "accountId", name, "isBusy") values
  (1, 1, 'Dr. Victor', true),
  (2, 1, 'Dra. Helena', false),
  (3, 1, 'Dr. Caio', false),
  (123, 1, 'Dra. Beatriz', false),
  (201, 2, 'Dr. Otávio', true),
  (202, 2, 'Dra. Marina', false);

insert into public.patients (id, "accountId", name) values
  (456, 1, 'João Silva'),
  (457, 1, 'Maria Souza'),
  (458, 1, 'Pedro Alves'),
  (459, 1, 'Ana Lima'),
  (556, 2, 'Carlos Nunes'),
  (557, 2, 'Rita Campos');

insert into public.contacts ("patientId", phone, email) values
  (456, '(81) 99999-9999', 'joao@example.com'),
  (457, '(81) 98888-1111', null),
  (458, '(81) 97777-2222', null),
  (459, null, 'ana@example.com'),
  (556, '(11) 96666-3333', null),
  (557, '(11) 95555-4444', null);

insert into public.procedures (id, "accountId", name, price) values
  (3699, 1, 'Ultrassom: Tireoide', 100),
  (3700, 1, 'Consulta', 250),
  (3701, 1, 'Eletrocardiograma', 180.50),
  (3799, 2, 'Consulta', 220);

insert into public.appointments (id, "accountId", "doctorId", "patientId", "statusId", date, "startTime", "endTime", notes) values
  (123, 1, 1, 456, 4, current_date, '09:00', '09:15', 'Observações sobre o agendamento'),
  (124, 1, 2, 457, 3, current_date, '09:15', '09:45', null),
  (125, 1, 3, 458, 3, current_date, '09:30', '10:00', null),
  (126, 1, 2, 459, 2, current_date, '10:00', '10:30', 'Primeira consulta'),
  (223, 2, 201, 556, 4, current_date, '09:00', '09:30', null),
  (224, 2, 202, 557, 2, current_date, '09:30', '10:00', null);

insert into public."appointmentProcedures" ("appointmentId", "procedureId") values
  (123, 3699), (124, 3700), (125, 3701), (126, 3700), (223, 3799), (224, 3799);

-- setval, not ALTER TABLE, which Postgres refuses while deferred triggers wait for the commit.
select setval(pg_get_serial_sequence('public.accounts', 'id'), 999),
       setval(pg_get_serial_sequence('public.doctors', 'id'), 999),
       setval(pg_get_serial_sequence('public.patients', 'id'), 999),
       setval(pg_get_serial_sequence('public.procedures', 'id'), 9999),
       setval(pg_get_serial_sequence('public.appointments', 'id'), 999);
