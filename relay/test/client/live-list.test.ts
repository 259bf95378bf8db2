// A live list against a simulated feed: commits, late deliveries, cuts, resyncs, loads that are slow or fail.
import fc from 'fast-check';
import { EventedList, type Feed, type LiveListOptions, remove, upsert } from '../../client/live-list.ts';
import { contains } from '../../client/position.ts';
import { covers, formatPosition, horizon, parsePosition, type Snapshot } from '../../outbox/position.ts';

interface Row {
  id: number;
  version: number;
}

interface Events {
  saved: (row: Row, position: string) => void;
  deleted: (id: number, position: string) => void;
}

interface Commit {
  event: 'saved' | 'deleted';
  payload: Row | number;
}

/** Fewer than a real connection: enough for a microtask or two to pass. */
const settle = async () => {
  for (let i = 0; i < 10; i += 1) await Promise.resolve();
};

/** A database, the connection of a client, and the loads of its list. Nothing happens by itself. */
class World {
  readonly table = new Map<number, Row>();
  readonly log: Commit[] = [];
  readonly list: EventedList<Row, Events>;
  readonly errors: string[] = [];
  readonly retries: (() => void)[] = [];
  /** Loads in flight: what was selected, once it was. */
  readonly loads: {
    selected: { rows: Row[]; position: string } | null;
    resolve: (loaded: { rows: Row[]; position: string }) => void;
    reject: (error: Error) => void;
  }[] = [];
  delivered: number | null = null;
  version = 0;
  /** Breaks the reducer for one event. */
  planted = false;
  regressed: string[] = [];
  readonly #newest = new Map<number, number>();

  constructor(options: Partial<LiveListOptions<Row, Events>> = {}) {
    const world = this;
    const feed: Feed = {
      get positioned() {
        return world.delivered !== null;
      },
      later(work) {
        world.retries.push(work);
        return () => void world.retries.splice(world.retries.indexOf(work), 1);
      },
      failed: (code) => this.errors.push(code),
      leave: () => undefined,
    };
    this.list = new EventedList<Row, Events>(feed, {
      load: () => new Promise((resolve, reject) => this.loads.push({ selected: null, resolve, reject })),
      key: 'id',
      on: {
        saved: (rows, row) => {
          if (this.planted) {
            this.planted = false;
            throw new Error('planted');
          }
          upsert(rows, row);
        },
        deleted: remove,
      },
      ...options,
    });
    this.list.subscribe(() => {
      for (const { id, version } of this.list.get().rows) {
        const newest = this.#newest.get(id) ?? 0;
        if (version < newest) this.regressed.push(`row ${id} went from version ${newest} to ${version}`);
        this.#newest.set(id, Math.max(newest, version));
      }
    });
  }

  /** Transaction n + 1 made event n. */
  positionAt(events: number): string {
    return formatPosition({ epoch: '0123456789ab', seen: { xmax: BigInt(events + 1), xip: [] } });
  }

  save(id: number): void {
    this.version += 1;
    const row = { id, version: this.version };
    this.table.set(id, row);
    this.log.push({ event: 'saved', payload: row });
  }

  drop(id: number): void {
    if (this.table.delete(id)) this.log.push({ event: 'deleted', payload: id });
  }

  connect(): void {
    this.delivered ??= this.log.length;
    this.list.start();
  }

  deliver(): void {
    if (this.delivered === null || this.delivered >= this.log.length) return;
    const { event, payload } = this.log[this.delivered]!;
    this.delivered += 1;
    this.list.take(event, payload, this.positionAt(this.delivered));
  }

  /** What lies between is never told. */
  resync(): void {
    if (this.delivered === null) return;
    this.delivered = this.log.length;
    this.list.reset();
    this.list.start();
  }

  select(): void {
    const load = this.loads.find(({ selected }) => selected === null);
    if (load) load.selected = { rows: [...this.table.values()], position: this.positionAt(this.log.length) };
  }

  /** Any of the loads in flight, so that an abandoned one may come last. */
  answer(which: number): void {
    const answerable = this.loads.filter(({ selected }) => selected !== null);
    const load = answerable[which % answerable.length];
    if (!load) return;
    this.loads.splice(this.loads.indexOf(load), 1);
    load.resolve(load.selected!);
  }

  refuse(which: number): void {
    const load = this.loads[which % this.loads.length];
    if (!load) return;
    this.loads.splice(this.loads.indexOf(load), 1);
    load.reject(new Error('API is down'));
  }

  retry(): void {
    this.retries.shift()?.();
  }

  /** Everything that is due arrives, and loads succeed. */
  async quiesce(): Promise<void> {
    this.connect();
    for (let i = 0; i < 100; i += 1) {
      this.deliver();
      this.select();
      this.answer(0);
      this.retry();
      await settle();
    }
  }
}

const id = fc.integer({ min: 1, max: 4 });
const step = fc.oneof(
  { weight: 4, arbitrary: id.map((n) => ({ name: `save ${n}`, run: (w: World) => w.save(n) })) },
  { weight: 2, arbitrary: id.map((n) => ({ name: `drop ${n}`, run: (w: World) => w.drop(n) })) },
  { weight: 6, arbitrary: fc.constant({ name: 'deliver', run: (w: World) => w.deliver() }) },
  { weight: 3, arbitrary: fc.constant({ name: 'select', run: (w: World) => w.select() }) },
  { weight: 3, arbitrary: id.map((n) => ({ name: `answer ${n}`, run: (w: World) => w.answer(n) })) },
  { weight: 1, arbitrary: id.map((n) => ({ name: `refuse ${n}`, run: (w: World) => w.refuse(n) })) },
  { weight: 1, arbitrary: fc.constant({ name: 'retry', run: (w: World) => w.retry() }) },
  { weight: 1, arbitrary: fc.constant({ name: 'resync', run: (w: World) => w.resync() }) },
  { weight: 1, arbitrary: fc.constant({ name: 'connect', run: (w: World) => w.connect() }) },
  { weight: 1, arbitrary: fc.constant({ name: 'reload', run: (w: World) => w.list.reload() }) },
  {
    weight: 1,
    arbitrary: fc.constant({
      name: 'plant',
      run: (w: World) => {
        w.planted = true;
      },
    }),
  },
);

test('ends up equal to the table, whatever happened; no row ever goes back in time', async () => {
  await fc.assert(
    fc.asyncProperty(fc.array(step, { maxLength: 60 }), async (steps) => {
      const world = new World();
      for (const { run } of steps) {
        run(world);
        await settle();
      }
      await world.quiesce();
      const { rows, status, error } = world.list.get();
      expect([...rows].sort((a, b) => a.id - b.id)).toEqual(
        [...world.table.values()].sort((a, b) => a.id - b.id),
      );
      expect({ status, error }).toEqual({ status: 'live', error: null });
      expect(world.regressed).toEqual([]);
    }),
    { numRuns: 1500 },
  );
});

test('a load in flight is aborted by a reset, and its answer ignored', async () => {
  const signals: AbortSignal[] = [];
  const answers: ((loaded: { rows: Row[] }) => void)[] = [];
  const world = new World({
    load(signal) {
      signals.push(signal);
      return new Promise((resolve) => answers.push(resolve));
    },
  });
  world.connect();
  world.resync();
  expect(signals.map(({ aborted }) => aborted)).toEqual([true, false]);
  answers[1]!({ rows: [{ id: 1, version: 2 }] });
  await settle();
  answers[0]!({ rows: [] });
  await settle();
  expect(world.list.get().rows).toEqual([{ id: 1, version: 2 }]);
});

test('a failed load is shown, reported and tried again', async () => {
  const world = new World();
  world.connect();
  world.refuse(0);
  await settle();
  expect(world.list.get()).toMatchObject({ status: 'loading', error: new Error('API is down') });
  expect(world.errors).toEqual(['load_failed']);
  world.save(1);
  await world.quiesce();
  expect(world.list.get()).toMatchObject({ rows: [{ id: 1, version: 1 }], status: 'live', error: null });
});

test('a row without a key is refused with a sentence', async () => {
  const world = new World({ load: async () => ({ rows: [{ version: 1 } as Row] }) });
  world.connect();
  await settle();
  expect(world.list.get().error).toEqual(
    new TypeError('The key of a row is undefined, expected a string or a number.'),
  );
});

test('keys are compared as text, rows are sorted, the value stays the same object until it changes', async () => {
  const world = new World({ sort: (a, b) => b.id - a.id });
  world.save(1);
  world.save(2);
  await world.quiesce();
  expect(world.list.get().rows.map((row) => row.id)).toEqual([2, 1]);
  expect(world.list.get()).toBe(world.list.get());
  world.list.take('deleted', '2', world.positionAt(3));
  expect(world.list.get().rows.map((row) => row.id)).toEqual([1]);
});

test('a closed list is quiet', async () => {
  const world = new World();
  let heard = 0;
  world.list.subscribe(() => {
    heard += 1;
  });
  world.connect();
  world.list.close();
  world.select();
  world.answer(0);
  await world.quiesce();
  expect({ heard, loads: world.loads.length }).toEqual({ heard: 0, loads: 0 });
});

describe('what loaded rows contain', () => {
  const snapshot: fc.Arbitrary<Snapshot> = fc
    .record({
      xmax: fc.bigInt({ min: 20n, max: 40n }),
      hidden: fc.uniqueArray(fc.bigInt({ min: 1n, max: 39n }), { maxLength: 4 }),
    })
    .map(({ xmax, hidden }) => ({
      xmax,
      xip: hidden.filter((xid) => xid < xmax).sort((a, b) => Number(a - b)),
    }));
  const epoch = '0123456789ab';

  test('is never overstated, and never understated where the xmax of the event is no larger', () => {
    fc.assert(
      fc.property(snapshot, snapshot, fc.boolean(), (rows, event, inBatch) => {
        const seen: Snapshot = { xmax: 1n, xip: [] };
        const loaded = formatPosition({ epoch, seen: rows });
        const position = inBatch
          ? formatPosition({ epoch, seen, batch: { bound: event, through: 7n } })
          : formatPosition({ epoch, seen: event });
        const claimed = contains(loaded, position);
        if (claimed) expect(covers(rows, horizon(parsePosition(position)!))).toBe(true);
        else if (event.xmax <= rows.xmax) expect(covers(rows, event)).toBe(false);
      }),
    );
  });

  test('is nothing where positions cannot be compared', () => {
    const loaded = formatPosition({ epoch, seen: { xmax: 9n, xip: [] } });
    for (const position of ['', '-', 'something else', loaded.replace('0', 'f')]) {
      expect(contains(loaded, position)).toBe(false);
      expect(contains(position, loaded)).toBe(false);
    }
    expect(contains(loaded, loaded)).toBe(true);
  });
});
