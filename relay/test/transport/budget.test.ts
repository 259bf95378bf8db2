// What a budget lets a connection spend, and what a message costs.
import fc from 'fast-check';
import { Budget, costOf } from '../../transport/limits/budget.ts';
import { hasMoreThan } from '../../transport/polling.ts';

describe('the budget', () => {
  const limits = { burst: 40, perSecond: 10, debt: 500 };

  test('a client does not wait while it lasts, and then no longer than its debt takes', () => {
    const budget = new Budget(limits, 0);
    for (let n = 0; n < 40; n += 1) expect(budget.spend(1, 0)).toBe(0);
    expect(budget.spend(1, 0)).toBe(100);
    expect(budget.spend(9, 0)).toBe(1_000);
    expect(budget.spend(0, 500)).toBe(500);
    expect(budget.spend(0, 1_000)).toBe(0);
  });

  test('a debt of more than 500 ends the connection', () => {
    const budget = new Budget(limits, 0);
    expect(budget.spend(540, 0)).toBe(50_000);
    expect(budget.spend(1, 0)).toBe(Number.POSITIVE_INFINITY);
  });

  test('the account pays too, and never ends a connection', () => {
    const account = new Budget({ burst: 10, perSecond: 1_000, debt: Number.POSITIVE_INFINITY }, 0);
    const own = new Budget(limits, 0);
    own.shareWith(account);
    expect(own.spend(20, 0)).toBe(10);
  });

  test('a client that spends no more than is refilled never waits', () => {
    fc.assert(
      fc.property(fc.array(fc.integer({ min: 100, max: 5_000 }), { maxLength: 200 }), (pauses) => {
        const budget = new Budget(limits, 0);
        let now = 0;
        return pauses.every((pause) => {
          now += pause;
          return budget.spend(1, now) === 0;
        });
      }),
    );
  });

  test('long messages cost more', () => {
    expect([0, 1, 1_023, 1_024, 65_536].map(costOf)).toEqual([1, 1, 1, 2, 65]);
  });

  test('packets of a body are counted as they are', () => {
    fc.assert(
      fc.property(
        fc.array(
          fc.string().filter((part) => !part.includes('\x1e')),
          { minLength: 1 },
        ),
        fc.integer({ min: 1, max: 20 }),
        (parts, most) => {
          expect(hasMoreThan(most, parts.join('\x1e'))).toBe(parts.length > most);
        },
      ),
    );
  });
});
