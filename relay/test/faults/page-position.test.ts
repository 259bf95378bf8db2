// A page must be told of another history before it gets a position in it, whatever the events are that it hears.
import { PagePosition } from './page-position.ts';

const OLD = 'aaaaaaaaaaaa';
const NEW = 'bbbbbbbbbbbb';

test('a position of another history is noticed, unless the page was told before', () => {
  const unwarned = new PagePosition(0);
  expect(unwarned.follow(`${OLD}-5`, 1)).toBe(false);
  expect(unwarned.follow(`${OLD}-5~7~1`, 2)).toBe(false);
  expect(unwarned.follow(`${NEW}-5~7~1`, 3)).toBe(true);

  const told = new PagePosition(0);
  told.follow(`${OLD}-5`, 1);
  told.startAnew(`${NEW}-4`, 1);
  expect(told.follow(`${NEW}-5`, 2)).toBe(false);
});

test('nothing is noticed of a page that begins, or of a position that was too long to be sent', () => {
  const page = new PagePosition(0);
  page.follow(`${OLD}-5`, 1);
  page.begin(undefined);
  expect(page.follow(`${NEW}-5`, 1)).toBe(false);
  expect(page.follow('-', 2)).toBe(false);
  expect(page.follow(`${NEW}-6`, 3)).toBe(false);
  page.begin(`${OLD}-5`);
  expect(page.follow(`${NEW}-7`, 1)).toBe(true);
});

test('a page comes back with a position that is some events old, and in its history', () => {
  const page = new PagePosition(2);
  expect(page.comeBack()).toBeNull();
  page.follow(`${OLD}-5`, 1);
  page.follow(`${OLD}-6`, 2);
  expect(page.comeBack()).toMatchObject({ position: `${OLD}-5`, seen: 1 });
  page.follow(`${OLD}-7`, 3);
  page.startAnew(`${NEW}-4`, 3);
  expect(page.comeBack()).toMatchObject({ position: `${NEW}-4`, seen: 3 });
  expect(page.follow(`${OLD}-8`, 4)).toBe(true);
});
