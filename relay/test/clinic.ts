// A database with one clinic (account 1), its doctor Dr. Victor (1) and the appointment of the seed (123), and
// somebody who writes to it.
import pg from 'pg';
import { createDatabase, type TestDatabase } from './postgres.ts';

/** As in the document the clinic's frontend was written against. */
export const SEED = {
  id: 123,
  date: '2025-01-23T00:00:00.000Z',
  startTime: '09:00',
  endTime: '09:15',
  notes: 'Observações sobre o agendamento',
  accountId: 1,
  createdAt: '2025-01-22T10:00:00.000Z',
  updatedAt: '2025-01-23T09:15:00.000Z',
  deletedAt: null,
  doctor: { id: 1, name: 'Dr. Victor' },
  patient: { id: 456, name: 'João Silva', contact: { phone: '(81) 99999-9999' } },
  status: { id: 5, name: 'Finalizado', color: '#28a745' },
  appointmentProcedures: { procedure: { id: 3699, name: 'Ultrassom: Tireoide', price: '100' } },
};

export const DOCTOR = {
  id: 1,
  accountId: 1,
  name: 'Dr. Victor',
  isBusy: true,
  createdAt: '2025-01-02T03:04:05.678Z',
  updatedAt: '2025-01-02T03:04:05.678Z',
  deletedAt: null,
};

const ROWS = `
  insert into public.accounts (id, name) values (1, 'Boa Vista'), (2, 'Aurora');
  insert into public.doctors (id, "accountId", name, "isBusy", "createdAt", "updatedAt")
    values (1, 1, 'Dr. Victor', true, '2025-01-02T03:04:05.678Z', '2025-01-02T03:04:05.678Z');
  insert into public.patients (id, "accountId", name) values (456, 1, 'João Silva');
  insert into public.contacts values (456, '(81) 99999-9999');
  insert into public.procedures values (3699, 1, 'Ultrassom: Tireoide', 100), (3700, 1, 'Consulta', 99.9);
  insert into public.appointments values
    (123, 1, 1, 456, 1, '2025-01-23', '09:00', '09:15', 'Observações sobre o agendamento', '2025-01-22T10:00:00Z', '2025-01-23T09:15:00Z');
  insert into public."appointmentProcedures" ("appointmentId", "procedureId") values (123, 3699);
  alter table public.doctors alter id restart with 1000`;

export const softDelete = 'update public.doctors set "deletedAt" = now()';
export const setStatus = (code: string) =>
  `update public.appointments set "statusId" = (select id from public."appointmentStatuses" where code = '${code}') where id = 123`;

export interface Heard {
  event: string;
  account: string | null;
  payload: unknown;
}

export interface Clinic {
  database: TestDatabase;
  writer: pg.Client;
  connect(): Promise<pg.Client>;
  /** Runs the statements and says which events they recorded, in the order of their ids. */
  heard(...statements: string[]): Promise<Heard[]>;
  /** The rows and the writer's session as they were at first. */
  reset(): Promise<void>;
  /** The first column of the first row, read by a superuser. */
  value<T>(query: string): Promise<T>;
  /** Makes a role with these grants, which the writer then is; returns its name. */
  writeAs(grants: (role: string) => string): Promise<string>;
  close(): Promise<void>;
}

export async function openClinic(): Promise<Clinic> {
  const database = await createDatabase();
  const { pool } = database;
  const connect = async () => {
    const client = new pg.Client({ connectionString: database.url });
    await client.connect();
    return client;
  };
  await pool.query(ROWS);
  const writer = await connect();
  const roles: string[] = [];
  const value = async <T>(query: string) => {
    const { rows } = await pool.query<Record<string, T>>(query);
    return Object.values(rows[0]!)[0]!;
  };
  return {
    database,
    writer,
    connect,
    value,
    async heard(...statements) {
      const before = await value<string>('select coalesce(max(id), 0) from relay.events');
      for (const statement of statements) await writer.query(statement);
      const { rows } = await pool.query<Heard>(
        'select event, account_id as account, payload from relay.events where id > $1 order by id',
        [before],
      );
      return rows;
    },
    async reset() {
      await writer.query('rollback');
      await writer.query('discard all');
      await pool.query('truncate public.accounts, public."appointmentProcedures" restart identity cascade');
      await pool.query(ROWS);
      await pool.query('truncate relay.events');
    },
    async writeAs(grants) {
      const role = `${new URL(database.url).pathname.slice(1)}_app`;
      await pool.query(`create role ${role}`);
      roles.push(role);
      await pool.query(grants(role));
      await writer.query(`set role ${role}`);
      return role;
    },
    async close() {
      await writer.end();
      for (const role of roles) await pool.query(`drop owned by ${role} cascade; drop role ${role}`);
      await database.close();
    },
  };
}

export const resync = (event: string, account: string | null, more: object): Heard => ({
  event: 'relay:resync',
  account,
  payload: expect.objectContaining({ event, ...more }),
});
