// An application that lives: tables that are made, migrated, swapped, restored and partitioned, triggers and settings
// of its own, and a contract that changes beside it. All statements are its own; none of them may fail.
import type pg from 'pg';
import type { Chance } from '../faults/chance.ts';

/** A table whose rows clients hear of. */
export interface Table {
  readonly id: string;
  /** Another table may have the same. */
  readonly event: string;
  readonly schema: 'app' | 'app2';
  name: string;
  /** With their schema. */
  readonly names: string[];
  level: 'row' | 'statement';
  at: 'statement' | 'commit';
  condition: 'none' | 'skip' | 'raising';
  kind: 'plain' | 'partitioned';
  /** Column names, which migrations change. */
  account: string;
  code: string;
  /** Other tables by whose name its rows may be written: partitions by region, children. */
  parts: string[];
  ownTriggers: number;
}

const EXTRA_TYPES = ['int', 'bigint', 'numeric(12,2)', 'text'] as const;

export class App {
  readonly tables: Table[] = [];
  readonly #dba: pg.Client;
  readonly #chance: Chance;
  readonly #role: string;
  #made = 0;
  #parts = 0;

  constructor(dba: pg.Client, chance: Chance, role: string) {
    this.#dba = dba;
    this.#chance = chance;
    this.#role = role;
  }

  async run(...statements: string[]): Promise<void> {
    for (const statement of statements) await this.#dba.query(statement);
  }

  async createTable(): Promise<string> {
    this.#made += 1;
    const partitioned = this.#chance.happens(0.25);
    const id = `t${this.#made}`;
    const sibling = this.#chance.happens(0.4) ? this.tables.at(-1) : undefined;
    const schema = this.#chance.one(['app', 'app2'] as const);
    // As in the schema of another tenant.
    const name = sibling && sibling.schema !== schema && !this.find(schema, sibling.name) ? sibling.name : id;
    const table: Table = {
      id,
      event: sibling?.event ?? id,
      schema,
      name,
      names: [`${schema}.${name}`],
      level: this.#chance.one(['row', 'row', 'statement']),
      at: 'statement',
      condition: this.#chance.one(['none', 'none', 'skip', 'raising']),
      kind: partitioned ? 'partitioned' : 'plain',
      account: 'account',
      code: 'code',
      parts: [],
      ownTriggers: 0,
    };
    if (table.level === 'row' && this.#chance.happens(0.25)) table.at = 'commit';
    await this.run(this.#definition(table), `grant all on ${table.schema}.${table.name} to ${this.#role}`);
    this.tables.push(table);
    if (partitioned) for (const region of ['a', 'b']) await this.addPart(table, region);
    await this.publish(table);
    return `create ${table.kind} ${schema}.${name} of ${table.event}, ${table.level}, at ${table.at}, condition ${table.condition}`;
  }

  #definition({ schema, name, kind, account, code }: Table): string {
    const columns = `id int, ${account} text, ${code} text, n int default 7, span interval default '1 mon 2 days', blob bytea default '\\xde00', at timestamp default '2025-01-23 09:15'`;
    return kind === 'plain'
      ? `create table ${schema}.${name} (${columns}, region text default 'a', primary key (id))`
      : `create table ${schema}.${name} (${columns}, region text default 'a', primary key (id, region)) partition by list (region)`;
  }

  /** A partition, or a table that inherits. */
  async addPart(table: Table, region: string): Promise<string> {
    const part = `${table.id}_part${++this.#parts}_${region}`;
    const parent = `${table.schema}.${table.name}`;
    const statements =
      table.kind === 'plain'
        ? [`create table ${table.schema}.${part} () inherits (${parent})`]
        : this.#chance.happens(0.5)
          ? [`create table ${table.schema}.${part} partition of ${parent} for values in ('${region}')`]
          : [
              `create table ${table.schema}.${part} (like ${parent} including defaults)`,
              `alter table ${parent} attach partition ${table.schema}.${part} for values in ('${region}')`,
            ];
    await this.run(...statements, `grant all on ${table.schema}.${part} to ${this.#role}`);
    table.parts.push(part);
    return `${part} ${table.kind === 'plain' ? 'inherits from' : 'is a partition of'} ${table.name}`;
  }

  /** As somebody would write it for the table as it is now. */
  async publish({ event, schema, name, level, at, condition, account, code }: Table): Promise<void> {
    for (const [operation, what, row] of [
      ['INSERT', 'created', 'new'],
      ['UPDATE', 'updated', 'new'],
      ['DELETE', 'deleted', 'old'],
    ]) {
      const when = {
        none: null,
        skip: `${row}.${code} is distinct from 'skip'`,
        raising: `${row}.${code}::int >= 0`,
      }[condition];
      await this.#dba.query(
        `select relay.publish($1, $2, $3, condition => $4, account => $5, level => $6, at => $7, key => 'id')`,
        [`${event}.${what}`, `${schema}.${name}`, operation, when, `${row}.${account}`, level, at],
      );
    }
    await this.#dba.query(`select relay.publish($1, $2, 'TRUNCATE')`, [
      `${event}.deleted`,
      `${schema}.${name}`,
    ]);
  }

  async drop(table: Table): Promise<string> {
    for (const what of ['created', 'updated', 'deleted']) {
      await this.run(`select relay.unpublish('${table.event}.${what}', '${table.schema}.${table.name}')`);
    }
    await this.run(`drop table ${table.schema}.${table.name} cascade`);
    this.tables.splice(this.tables.indexOf(table), 1);
    return `${table.name} goes, and its events`;
  }

  /** ORMs swap a table to change it; a restore drops it and makes it again, with or without its triggers. */
  async remake(table: Table): Promise<string> {
    if (table.kind === 'partitioned' || table.parts.length > 0) return 'nothing';
    const how = this.#chance.one(['swap', 'slow swap', 'recreate', 'restore'] as const);
    const { schema, name } = table;
    const copy = `create table ${schema}.${name}_new (like ${schema}.${name} including all)`;
    const fill = `insert into ${schema}.${name}_new select * from ${schema}.${name}`;
    const grant = `grant all on ${schema}.${name} to ${this.#role}`;
    if (how === 'swap' || how === 'slow swap') {
      const renames = [
        `alter table ${schema}.${name} rename to ${name}_old`,
        `alter table ${schema}.${name}_new rename to ${name}`,
      ];
      await this.run(copy, fill);
      if (how === 'swap') await this.run(`begin; ${renames.join('; ')}; commit`);
      else await this.run(renames[0]!, renames[1]!);
      await this.run(grant);
      if (this.#chance.happens(0.5)) await this.run(`drop table ${schema}.${name}_old`);
      else
        await this.run(
          `alter table ${schema}.${name}_old rename to ${name}_old${this.#chance.between(1, 1e6)}`,
        );
    } else {
      const { rows } = await this.#dba.query<{ definition: string }>(
        `select pg_get_triggerdef(oid) as definition from pg_trigger where tgrelid = '${schema}.${name}'::regclass and not tgisinternal`,
      );
      await this.run(
        copy,
        fill,
        `drop table ${schema}.${name}`,
        `alter table ${schema}.${name}_new rename to ${name}`,
      );
      if (how === 'restore') await this.run(...rows.map(({ definition }) => definition));
      await this.run(grant);
    }
    if (how !== 'restore') table.ownTriggers = 0;
    return `${how} of ${name}`;
  }

  find(schema: string, name: string): Table | undefined {
    return this.tables.find((table) => table.schema === schema && table.name === name);
  }

  /** Two tables of an event take each other's name; the contract is of the names. */
  async exchange(table: Table): Promise<string> {
    const other = this.tables.find(
      ({ id, event, schema }) => id !== table.id && event === table.event && schema === table.schema,
    );
    if (!other || table.ownTriggers > 0 || other.ownTriggers > 0) return 'nothing';
    const { schema, name } = table;
    await this.run(
      `begin; alter table ${schema}.${name} rename to exchanged; alter table ${schema}.${other.name} rename to ${name};
       alter table ${schema}.exchanged rename to ${other.name}; commit`,
    );
    const { kind, account, code, parts } = table;
    Object.assign(table, { kind: other.kind, account: other.account, code: other.code, parts: other.parts });
    Object.assign(other, { kind, account, code, parts });
    return `${name} and ${other.name} exchange their names`;
  }

  async rename(table: Table): Promise<string> {
    // Its own trigger names it.
    if (table.ownTriggers > 0) return 'nothing';
    const to = `${table.id}_${this.#chance.between(1, 1e6)}`;
    await this.run(`alter table ${table.schema}.${table.name} rename to ${to}`);
    const did = `${table.name} is renamed to ${to}`;
    table.name = to;
    table.names.push(`${table.schema}.${to}`);
    return did;
  }

  async alter(table: Table): Promise<string> {
    const { schema, name } = table;
    const type = this.#chance.one(EXTRA_TYPES);
    const column = this.#chance.between(1, 1e6);
    const change = this.#chance.one([
      'retype n',
      'retype code',
      'add',
      'drop',
      'rename code',
      'rename account',
    ]);
    if (change === 'retype n') {
      await this.run(
        `alter table ${schema}.${name} alter n drop default, alter n type ${type} using case when n::text ~ '^[0-9.]+$' then n::numeric end::${type}`,
      );
      return `${name}.n is ${type}`;
    }
    if (change === 'retype code') {
      await this.run(
        `alter table ${schema}.${name} alter ${table.code} type varchar(${this.#chance.between(20, 99)})`,
      );
    } else if (change === 'add') {
      await this.run(`alter table ${schema}.${name} add extra_${column} ${type}`);
    } else if (change === 'drop') {
      await this.run(`alter table ${schema}.${name} add extra_${column} ${type}, drop if exists blob`);
    } else {
      if (table.ownTriggers > 0) return 'nothing';
      const what = change === 'rename code' ? 'code' : 'account';
      const to = `${what}_${column}`;
      await this.run(`alter table ${schema}.${name} rename ${table[what]} to ${to}`);
      table[what] = to;
    }
    return `${change} of ${name}`;
  }

  async addOwnTrigger(table: Table): Promise<string> {
    const { schema, name, code } = table;
    // Another one would fire for what the first one writes, and so on.
    if (table.ownTriggers > 0) return 'nothing';
    const trigger = this.#chance.one(['a_own', 'zz_own', '!a_own']);
    const [kind, when, body] = this.#chance.one([
      ['before', 'before insert or update', `new.n := 3; return new`],
      [
        'own row',
        'after insert',
        `update ${schema}.${name} set ${code} = '41' where id = new.id; return null`,
      ],
      [
        'next row',
        'after insert',
        `update ${schema}.${name} set ${code} = '42' where id = new.id + 1; return null`,
      ],
      ['lock', 'after update', `perform from ${schema}.${name} where id = new.id for update; return null`],
    ] as const);
    const routine = `app.${table.id}_own_${this.#chance.between(1, 1e6)}`;
    await this.run(
      `create function ${routine}() returns trigger language plpgsql security definer as $$ begin ${body}; end $$`,
      `create trigger "${trigger}" ${when} on ${schema}.${name} for each row execute function ${routine}()`,
    );
    table.ownTriggers += 1;
    return `${name} gets a trigger: ${kind}`;
  }

  async changeOwner(table: Table): Promise<string> {
    const owner = this.#chance.one([this.#role, 'current_user']);
    // A former owner keeps no rights.
    await this.run(
      `alter table ${table.schema}.${table.name} owner to ${owner}`,
      `grant all on ${table.schema}.${table.name} to ${this.#role}`,
    );
    return `${table.name} has another owner`;
  }

  async changeContract(table: Table): Promise<string> {
    const did = this.#chance.one([
      'suspend and resume',
      'unpublish and publish',
      'publish otherwise',
    ] as const);
    if (did === 'suspend and resume') {
      const all = this.#chance.happens(0.5);
      for (const what of ['created', 'updated', 'deleted']) {
        const event = `'${table.event}.${what}'${all ? '' : `, '${table.schema}.${table.name}'`}`;
        await this.run(
          `begin; select relay.suspend(${event}); alter table ${table.schema}.${table.name} add x_${this.#chance.between(1, 1e6)} int; select relay.resume(${event}); commit`,
        );
      }
      return `${did}: ${table.event}`;
    }
    if (did === 'unpublish and publish') {
      for (const what of ['created', 'updated', 'deleted']) {
        await this.run(`select relay.unpublish('${table.event}.${what}', '${table.schema}.${table.name}')`);
      }
    } else {
      table.level = this.#chance.one(['row', 'statement']);
      table.at = table.level === 'row' && this.#chance.happens(0.3) ? 'commit' : 'statement';
      table.condition = this.#chance.one(['none', 'skip', 'raising']);
    }
    await this.publish(table);
    return `${did}: ${table.event}`;
  }
}
