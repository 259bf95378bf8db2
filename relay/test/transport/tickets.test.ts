// How long a ticket is good, and how many there may be.
import { TicketBox } from '../../transport/tickets.ts';

test('a ticket is good for ten seconds', async () => {
  let now = 0;
  const box = new TicketBox(() => now);
  const [first, second] = [await box.keep('a', '1'), await box.keep('b', '1')];
  now = 9_999;
  expect(await box.take(first!)).toBe('a');
  expect(await box.take(first!)).toBeNull();
  now = 10_000;
  expect(await box.take(second!)).toBeNull();
});

test('an account that takes all it may have leaves room for others', async () => {
  let now = 0;
  const box = new TicketBox(() => now);
  const token = 'x'.repeat(8 * 1024);
  let given = 0;
  while ((await box.keep(token, 'greedy')) !== null) given += 1;
  expect(given).toBe(512);
  const other = await box.keep(token, 'other');
  expect(await box.take(other!)).toBe(token);
  now = 10_000;
  expect(await box.keep(token, 'greedy')).not.toBeNull();
});
