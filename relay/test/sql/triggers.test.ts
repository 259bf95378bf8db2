// The contract as SQL: act, then assert the payload and the silence.
import { DOCTOR, type Heard, resync, SEED, setStatus, softDelete } from '../clinic.ts';
import { clinic } from './one-clinic.ts';

describe('doctors', () => {
  const to1 = (event: string, payload: unknown): Heard => ({ event, account: '1', payload });

  test('created: inserted, restored, moved here', async () => {
    const insert = `insert into public.doctors values (7, 1, 'Dra. Ana', false, '2025-01-02T03:04:05.678Z', '2025-01-02T03:04:05.678Z')`;
    const ana = { ...DOCTOR, id: 7, name: 'Dra. Ana', isBusy: false };
    expect(await clinic.heard(insert)).toEqual([to1('doctors.created', ana)]);
    await clinic.writer.query(`${softDelete} where id = 7`);
    expect(await clinic.heard('update public.doctors set "deletedAt" = null where id = 7')).toEqual([
      to1('doctors.created', ana),
    ]);
    expect(await clinic.heard('update public.doctors set "accountId" = 2 where id = 7')).toEqual([
      { event: 'doctors.created', account: '2', payload: { ...ana, accountId: 2 } },
      to1('doctors.deleted', 7),
    ]);
  });

  test('created: not when it is deleted already', async () => {
    expect(
      await clinic.heard(
        `insert into public.doctors ("accountId", name, "deletedAt") values (1, 'x', now())`,
      ),
    ).toEqual([]);
  });

  test('updated: with any column but isBusy and updatedAt', async () => {
    expect(await clinic.heard(`update public.doctors set name = 'Dr. Vítor'`)).toEqual([
      to1('doctors.updated', { ...DOCTOR, name: 'Dr. Vítor' }),
    ]);
    expect(await clinic.heard('update public.doctors set "updatedAt" = now(), name = name')).toEqual([]);
  });

  test('busy: a change of isBusy, and nothing else', async () => {
    expect(await clinic.heard('update public.doctors set "isBusy" = false, "updatedAt" = now()')).toEqual([
      to1('doctors.busy', { id: 1, isBusy: false }),
    ]);
    expect(await clinic.heard('update public.doctors set "isBusy" = false')).toEqual([]);
  });

  test('deleted: the id, a number; once', async () => {
    expect(await clinic.heard(softDelete)).toEqual([to1('doctors.deleted', 1)]);
    expect(await clinic.heard(softDelete, `update public.doctors set name = 'x', "isBusy" = false`)).toEqual(
      [],
    );
    expect(await clinic.heard('delete from public.doctors')).toEqual([]);
  });

  test('deleted: by a hard DELETE too', async () => {
    expect(await clinic.heard('delete from public.doctors')).toEqual([to1('doctors.deleted', 1)]);
  });

  test('TRUNCATE: every account refetches', async () => {
    expect(await clinic.heard('truncate public.doctors cascade')).toEqual(
      expect.arrayContaining([resync('doctors.deleted', null, { reason: 'truncated' })]),
    );
  });
});

describe('appointments', () => {
  test('finished: the seed, to the letter; FINALIZADO frees the doctor in the same transaction', async () => {
    const events = await clinic.heard(setStatus('FINALIZADO'));
    expect(events).toEqual([
      { event: 'doctors.busy', account: '1', payload: { id: 1, isBusy: false } },
      { event: 'appointmnents.finished', account: '1', payload: SEED },
    ]);
    expect(await clinic.value('select count(distinct xid)::int from relay.events')).toBe(1);
    expect(await clinic.value('select "isBusy" from public.doctors')).toBe(false);
  });

  test('finished: CANCELADO leaves the doctor alone', async () => {
    expect(await clinic.heard(setStatus('CANCELADO'))).toEqual([
      {
        event: 'appointmnents.finished',
        account: '1',
        payload: { ...SEED, status: { id: 6, name: 'Cancelado', color: '#dc3545' } },
      },
    ]);
  });

  test('finished: silence for the same status, another column, another status, an insert', async () => {
    await clinic.writer.query(setStatus('FINALIZADO'));
    expect(
      await clinic.heard(
        setStatus('FINALIZADO'),
        `update public.appointments set notes = 'x', "updatedAt" = now()`,
        setStatus('AGENDADO'),
        setStatus('CONFIRMADO'),
        `insert into public.appointments ("accountId", "statusId", date, "startTime", "endTime") values (1, 5, now(), '10:00', '10:30')`,
      ),
    ).toEqual([]);
  });

  test('finished: also when the same write soft-deletes it', async () => {
    const events = await clinic.heard(
      'update public.appointments set "statusId" = 6, "deletedAt" = \'2025-01-23T12:00:00.5Z\'',
    );
    expect(events).toMatchObject([
      { event: 'appointmnents.finished', payload: { deletedAt: '2025-01-23T12:00:00.500Z' } },
    ]);
  });

  test('finished: what is missing is null, and further procedures follow in "others"', async () => {
    await clinic.writer.query(
      'insert into public."appointmentProcedures" ("appointmentId", "procedureId") values (123, 3700)',
    );
    const [several] = await clinic.heard(setStatus('CANCELADO'));
    expect(several!.payload).toMatchObject({
      appointmentProcedures: {
        procedure: { id: 3699 },
        others: [{ procedure: { id: 3700, name: 'Consulta', price: '99.9' } }],
      },
    });
    const [bare] = await clinic.heard(
      'delete from public."appointmentProcedures"; delete from public.contacts',
      'update public.appointments set "doctorId" = null, "statusId" = 5',
    );
    expect(bare!.payload).toEqual({
      ...SEED,
      doctor: null,
      patient: { ...SEED.patient, contact: { phone: null } },
      appointmentProcedures: { procedure: null },
    });
  });

  test.each([
    ['appointments.checkin', 'CHECKIN'],
    ['appointments.serving', 'EM_ATENDIMENTO'],
  ])('%s: a change to %s, or an appointment that begins with it', async (event, code) => {
    expect(await clinic.heard(setStatus(code), setStatus(code))).toMatchObject([
      { event, account: '1', payload: { id: 123 } },
    ]);
    const insert = (more: string, values: string) =>
      `insert into public.appointments ("accountId", date, "startTime", "endTime", "statusId"${more})
       select 1, '2025-01-23', '09:00', '09:15', id${values} from public."appointmentStatuses" where code = '${code}'`;
    expect(await clinic.heard(insert('', ''))).toMatchObject([{ event }]);
    expect(await clinic.heard(insert(', "deletedAt"', ', now()'))).toEqual([]);
  });

  test('told at commit: with what was written after the status, and as the last of several statuses', async () => {
    expect(
      await clinic.heard(
        'begin',
        setStatus('CHECKIN'),
        setStatus('EM_ATENDIMENTO'),
        setStatus('CANCELADO'),
        'update public."appointmentProcedures" set "procedureId" = 3700',
        'commit',
      ),
    ).toMatchObject([
      { event: 'appointmnents.finished', payload: { appointmentProcedures: { procedure: { id: 3700 } } } },
    ]);
    expect(
      await clinic.heard('begin', setStatus('CHECKIN'), 'delete from public.appointments', 'commit'),
    ).toEqual([]);
  });
});
