// One life: so many steps of an application, each judged. A seed reproduces it.
import type pg from 'pg';
import { Chance } from '../faults/chance.ts';
import { App, type Table } from './app.ts';
import { mentions, Oracle, type Problem, type Written } from './oracle.ts';

export interface Life {
  /** What was wrong, each with the step and what led there. */
  readonly wrong: string[];
  readonly counts: Oracle['counts'];
  readonly statements: number;
  /** How often each kind of step was taken. */
  readonly steps: Record<string, number>;
}

export interface LifeOptions {
  seed: number;
  steps: number;
  connect: () => Promise<pg.Client>;
  /** A role that only writes. */
  role: string;
}

const SESSION_SETTINGS = [
  'set intervalstyle = iso_8601',
  'set bytea_output = escape',
  `set datestyle = 'German'`,
  `set timezone = 'Asia/Tokyo'`,
  'set extra_float_digits = 0',
  `set search_path = ''`,
  `set default_transaction_isolation = 'repeatable read'`,
  `set default_transaction_isolation = 'serializable'`,
  'set synchronous_commit = off',
  'set relay.ring = off',
  'set plan_cache_mode = force_generic_plan',
  'set quote_all_identifiers = on',
  'set constraints all immediate',
];
const ACCOUNTS = ['a1', 'a2', 'a3'];
const CODES = ['1', '2', 'x', 'skip'];

export async function live({ seed, steps, connect, role }: LifeOptions): Promise<Life> {
  const chance = new Chance(seed, 'life');
  const [dba, observer] = [await connect(), await connect()];
  const sessions = [await connect(), await connect(), await connect()];
  for (const session of sessions) await session.query(`set role ${role}`);
  const app = new App(dba, chance, role);
  const oracle = new Oracle(observer);
  const told: string[] = [];
  const wrong: string[] = [];
  const taken: Record<string, number> = {};
  let statements = 0;
  let nextId = 1;

  /** By which relay.check() must name a table; null where the event is enough. */
  const namesOf = ({ event, names }: Table) =>
    app.tables.filter((table) => table.event === event).length > 1 ? names : null;

  const isSilent = (table: Table, code: string | null) =>
    (table.condition === 'skip' && code === 'skip') || (table.condition === 'raising' && code === null);

  /** Statements of one session, as the application sends them, and the rows they wrote. */
  async function write(table: Table): Promise<string> {
    const session = chance.one(sessions);
    const part = table.parts.length > 0 && chance.happens(0.4) ? chance.one(table.parts) : null;
    const target = `${table.schema}.${part ?? table.name}`;
    const region = part
      ? part.split('_').at(-1)
      : chance.one(table.kind === 'partitioned' ? ['a', 'b'] : ['a']);
    const count = chance.one([1, 1, 1, 2, 3]);
    const ids = Array.from({ length: count }, () => nextId++);
    const account = chance.one(ACCOUNTS);
    const [first, second] = [chance.one(CODES), chance.one(CODES)];
    const { account: accountColumn, code: codeColumn } = table;
    const insert = `insert into ${target} (id, ${accountColumn}, ${codeColumn}, region) select n, '${account}', '${first}', '${region}' from unnest(array[${ids}]) as n`;
    const some = `id = any (array[${ids}])`;
    const update = `update ${target} set ${codeColumn} = '${second}' where ${some}`;
    const remove = `delete from ${target} where ${some}`;
    const kind = chance.one(['insert', 'insert', 'update', 'update', 'delete', 'savepoint', 'transaction']);
    const texts = {
      insert: [insert],
      update: [insert, update],
      delete: [insert, remove],
      savepoint: ['begin', 'savepoint s', insert, 'rollback to s', insert, 'commit'],
      transaction: ['begin', insert, update, 'commit'],
    }[kind]!;
    await oracle.begin();
    for (const text of texts) {
      statements += 1;
      await session.query(text);
    }
    const written: Written[] = [];
    for (const id of ids) {
      const now = await oracle.rowNow(target, id);
      const code = now === null ? first : ((JSON.parse(now) as Record<string, string>)[codeColumn] ?? null);
      written.push({
        event: table.event,
        names: namesOf(table),
        account,
        id,
        now,
        silent: isSilent(table, code),
      });
    }
    wrong.push(...(await oracle.judge(written)).map(describeStep));
    return `${kind} ${ids} by ${target}`;
  }

  async function truncate(table: Table): Promise<string> {
    const target = `${table.schema}.${table.parts.length > 0 && chance.happens(0.5) ? chance.one(table.parts) : table.name}`;
    await oracle.begin();
    await chance.one(sessions).query(`truncate ${target}`);
    const gone = {
      event: table.event,
      names: namesOf(table),
      account: 'a1',
      id: 0,
      now: null,
      silent: false,
    };
    wrong.push(...(await oracle.judge([gone])).map(describeStep));
    return `truncate ${target}`;
  }

  async function heed(found: readonly Problem[]): Promise<void> {
    for (const named of found) {
      const { problem, event, remedy } = named;
      const candidates = app.tables.filter((candidate) => event?.startsWith(`${candidate.event}.`));
      const table = candidates.find(({ names }) => mentions(named, names)) ?? candidates[0];
      const done = remedy.startsWith('select relay.') && (await dba.query(remedy).catch(() => null));
      if (done || !table) continue;
      if (problem === 'captures_failed') table.condition = 'none';
      if (remedy.includes(`at => 'commit'`)) Object.assign(table, { level: 'row', at: 'commit' });
      await app.publish(table);
    }
  }

  /** What relay.check() says to do is done; then it must have nothing more to say. */
  async function cure(): Promise<string> {
    const found = await oracle.problems();
    await heed(found);
    // An expression that is mended may leave a trigger to be made anew, and a rename hides what else is off.
    await heed(await oracle.problems());
    for (const { problem, event, detail } of await oracle.problems()) {
      wrong.push(describeStep(`relay.check() stays red: ${problem} ${event}: ${detail}`));
    }
    return `cured ${found.map(({ problem }) => problem).join(', ') || 'nothing'}`;
  }

  async function changeSetting(): Promise<string> {
    const setting = chance.one(SESSION_SETTINGS);
    const session = chance.one(sessions);
    if (chance.happens(0.2)) {
      await session.query('discard all');
      await session.query(`set role ${role}`);
    }
    await session.query(setting);
    return setting;
  }

  function describeStep(what: string): string {
    return `${what} [seed ${seed}; ${told.slice(-12).join(' | ')}]`;
  }

  const kinds: [weight: number, name: string, step: (table: Table) => Promise<string>][] = [
    [40, 'write', write],
    [4, 'create', () => app.createTable()],
    [8, 'alter', (table) => app.alter(table)],
    [7, 'remake', (table) => app.remake(table)],
    [3, 'exchange', (table) => app.exchange(table)],
    [4, 'rename', (table) => app.rename(table)],
    [5, 'part', (table) => app.addPart(table, table.kind === 'plain' ? 'a' : `r${table.parts.length}`)],
    [5, 'own trigger', (table) => app.addOwnTrigger(table)],
    [5, 'setting', () => changeSetting()],
    [3, 'owner', (table) => app.changeOwner(table)],
    [5, 'contract', (table) => app.changeContract(table)],
    [3, 'truncate', truncate],
    [10, 'cure', () => cure()],
    [1, 'drop', (table) => app.drop(table)],
  ];
  const deck = kinds.flatMap(([weight, name, step]) =>
    Array.from({ length: weight }, () => ({ name, step })),
  );

  for (const schema of ['app', 'app2']) {
    await app.run(`create schema ${schema}`, `grant usage, create on schema ${schema} to ${role}`);
  }
  told.push(await app.createTable());
  for (let step = 1; step <= steps; step += 1) {
    const { name, step: take } = app.tables.length === 0 ? deck[40]! : chance.one(deck);
    taken[name] = (taken[name] ?? 0) + 1;
    const table = app.tables.length === 0 ? null : chance.one(app.tables);
    try {
      told.push(`${step} ${await take(table!)}`);
      // As a relay does every second.
      await dba.query('select relay.notice_swaps()');
    } catch (error) {
      for (const client of [dba, ...sessions]) await client.query('rollback');
      // The contract may refuse what its expressions no longer fit, and says so.
      if (name === 'contract' && (error as { code?: string }).code === '22023') {
        told.push(`${step} refused`);
        continue;
      }
      wrong.push(
        describeStep(`step ${step}, ${name} of ${table?.name}, failed: ${(error as Error).message}`),
      );
    }
  }
  for (const client of [dba, observer, ...sessions]) await client.end();
  return { wrong, counts: oracle.counts, statements, steps: taken };
}
