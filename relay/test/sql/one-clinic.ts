// One clinic for all tests of a file, put back before each.
import { type Clinic, openClinic } from '../clinic.ts';

let shared: Clinic;
export let clinic: Clinic;
beforeAll(async () => {
  shared = await openClinic();
});
beforeEach(async () => {
  clinic = shared;
  await clinic.reset();
});
afterAll(() => shared.close());
