// Values that JSON or JavaScript has no exact form for: what arrives, and how the contract types it.
import { printContract } from '../../commands/contract.ts';
import { type Clinic, openClinic } from '../clinic.ts';

let clinic: Clinic;

beforeAll(async () => {
  clinic = await openClinic();
  await clinic.writer.query(`
    create table public.readings (
      id bigint primary key, exact numeric not null, rough float8 not null, local timestamp not null, at timestamptz not null);
    select relay.publish('r.row', 'public.readings', 'INSERT', account => '''a''');
    select relay.publish('r.text', 'public.readings', 'INSERT', account => '''a''', payload =>
      'jsonb_build_array(new.id::text, relay.iso(new.local), relay.iso(new.at))')`);
});
afterAll(() => clinic.close());

test('arrive as Postgres writes them, or as the payload says', async () => {
  const values = `9007199254740993, 'NaN', '-Infinity', '2025-01-23 09:15', '2025-01-23 09:15Z'`;
  expect(await clinic.heard(`insert into public.readings values (${values})`)).toEqual([
    {
      event: 'r.row',
      account: 'a',
      payload: {
        // Rounded, by JavaScript.
        id: 9007199254740992,
        exact: 'NaN',
        rough: '-Infinity',
        local: '2025-01-23T09:15:00',
        at: '2025-01-23T09:15:00+00:00',
      },
    },
    {
      event: 'r.text',
      account: 'a',
      payload: ['9007199254740993', '2025-01-23T09:15:00.000Z', '2025-01-23T09:15:00.000Z'],
    },
  ]);
  expect(await clinic.value(`select payload ->> 'id' from relay.events where event = 'r.row'`)).toBe(
    '9007199254740993',
  );
});

test('are typed so, and what JavaScript rounds is said', async () => {
  const types = await printContract(clinic.database.pool, 'typescript', '');
  expect(/export type RRow = ({.*?});/s.exec(types)?.[1]).toBe(`{
  /** JavaScript rounds it above 2^53. */
  id: number;
  exact: number | string;
  rough: number | string;
  local: string;
  at: string;
}`);
});
