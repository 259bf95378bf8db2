import { FairQueryQueue, FairWorkQueue } from '../../delivery/catch-up/fair-queue.ts';

const always = () => true;

test('one account has one query running, and another does not wait behind its queue', async () => {
  const queue = new FairQueryQueue(2);
  const order: string[] = [];
  const gates: (() => void)[] = [];
  const query = (name: string) => () =>
    new Promise<void>((resolve) => {
      order.push(name);
      gates.push(resolve);
    });
  const all = ['a1', 'a2', 'a3'].map((name) => queue.run('a', always, query(name)));
  const other = queue.run('b', always, query('b1'));
  expect(order).toEqual(['a1', 'b1']);
  gates[1]!();
  await other;
  expect(order).toEqual(['a1', 'b1']);
  gates[0]!();
  await all[0];
  await new Promise(setImmediate);
  expect(order).toEqual(['a1', 'b1', 'a2']);
  gates[2]!();
  await all[1];
  await new Promise(setImmediate);
  gates[3]!();
  await all[2];
});

test('a query whose client is gone is dropped', async () => {
  const queue = new FairQueryQueue(1);
  let end = () => {};
  const first = queue.run(
    'a',
    always,
    () =>
      new Promise<void>((resolve) => {
        end = resolve;
      }),
  );
  let ran = false;
  const gone = queue.run(
    'a',
    () => false,
    async () => {
      ran = true;
    },
  );
  const dropped = expect(gone).rejects.toMatchObject({ code: 'nobody_waits' });
  end();
  await first;
  await dropped;
  expect(ran).toBe(false);
});

test('accounts take turns at work, whatever the number of their pieces', async () => {
  const queue = new FairWorkQueue();
  const order: string[] = [];
  const work = (name: string) => queue.run(name, () => order.push(name));
  await Promise.all([work('a'), work('a'), work('a'), work('b')]);
  expect(order).toEqual(['a', 'b', 'a', 'a']);
});
