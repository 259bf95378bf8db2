// Relays and clients on one database for all tests of a file, with an account for each test.
import { SignJWT } from 'jose';
import { useNodes } from './nodes.ts';
import { type Database, freshDatabase, SECRET } from './world.ts';

export let database: Database;
/** Of the test that runs. */
export let account: string;
let tests = 0;
beforeAll(async () => {
  database = await freshDatabase();
  await database.query("select relay.publish(event => 'test.event')");
});
beforeEach(() => {
  tests += 1;
  account = `acc-${tests}`;
});
afterAll(() => database.close());
export const { start, node, client, link, ends } = useNodes(() => database);

export async function emit(payload: unknown, to = account): Promise<void> {
  await database.query('select relay.emit($1, $2, $3)', [to, 'test.event', JSON.stringify(payload)]);
}

export const range = (from: number, to: number) => Array.from({ length: to - from + 1 }, (_, i) => from + i);

export function sign(claims: Record<string, unknown>, secret = SECRET): Promise<string> {
  return new SignJWT(claims).setProtectedHeader({ alg: 'HS256' }).sign(new TextEncoder().encode(secret));
}

export const inAnHour = () => Math.floor(Date.now() / 1000) + 3600;
