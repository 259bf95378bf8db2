// A clinic for each test, and what a query shows of it.
import { type Clinic, openClinic } from '../clinic.ts';

export let clinic: Clinic;

beforeEach(async () => {
  clinic = await openClinic();
});
afterEach(() => clinic.close());

export async function rows<Row extends Record<string, unknown>>(query: string): Promise<Row[]> {
  return (await clinic.database.pool.query<Row>(query)).rows;
}
