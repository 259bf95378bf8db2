// sql/: the functions, triggers and views in force. What a database runs already (relay.applied_sql) is left alone.
// It is applied in units, each of them one short transaction:
//
//   relay/*.sql                     all of them, so that functions of two versions never meet
//   clinic/x.sql, evolution/x.sql   a file: functions, or the calls of relay.publish() for one event
//   republished: doctors.deleted    a published event, when relay/*.sql changed. From the catalogue, not from the
//                                   files: what a DBA published or changed in psql stays as it is
import { createHash } from 'node:crypto';
import { readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import type pg from 'pg';
import { errorCode, errorField, errorText, RecadoError } from '../errors.ts';
import type { Log } from '../log.ts';
import { commandLine } from '../package.ts';

export interface Patience {
  log: Log;
  /** How long a busy table is retried. */
  patienceMs: number;
}

export interface ApplyOptions extends Patience {
  /** The folder that holds sql/. */
  root: string;
  /** Folders of sql/ besides relay/. */
  folders: readonly string[];
  onProgress: (line: string) => void;
}

interface Unit {
  readonly name: string;
  readonly hash: string;
  readonly parts: readonly Part[];
}

interface Part {
  readonly text: string;
  /** For messages; absent for a call that is in no file. */
  readonly file?: string;
}

/**
 * Applies what is new, and says what that was.
 * @throws RecadoError `sql_failed`: relay/*.sql did not apply, nothing else was tried;
 *   `contract_incomplete`: all was applied but what the message names
 */
export async function applySql(session: pg.Client, options: ApplyOptions): Promise<string[]> {
  const inForce = await hashesInForce(session);
  const isNew = (unit: Unit) => inForce.get(unit.name) !== unit.hash;
  // A migration may have dropped what a file had made: after one, files are applied again.
  const history = await migrationHistory(session);
  const applied: string[] = [];
  const problems: string[] = [];
  const note = ({ name }: Unit) => {
    applied.push(name);
    options.onProgress(`applied ${name}`);
  };

  const relay = (await readUnits(options.root, 'relay', history))[0]!;
  if (isNew(relay)) {
    await apply(session, relay, options).catch((error) => {
      throw new RecadoError(
        'sql_failed',
        `sql/relay was not applied: ${sentenceOf(error)}. Nothing was changed.`,
        {
          cause: error,
        },
      );
    });
    note(relay);
  }

  const tryTo = async (unit: Unit) => {
    try {
      const outcomes = await apply(session, unit, options);
      if (!outcomes.every((outcome) => outcome === 'unchanged')) note(unit);
    } catch (error) {
      // The application does without such a table, or does not have it yet: every run looks again.
      if (errorCode(error) === '42P01')
        options.log.say('migrate_skipped', { unit: unit.name, error: sentenceOf(error) });
      else problems.push(sentenceOf(error));
    }
  };
  const stranded = await eventsWithoutTable(session);
  for (const folder of options.folders) {
    for (const unit of await readUnits(options.root, folder, history)) {
      const isStranded = stranded.some((event) => unit.parts[0]!.text.includes(`'${event}'`));
      if (isNew(unit) || isStranded) await tryTo(unit);
    }
  }
  for (const unit of await republications(session, relay.hash)) if (isNew(unit)) await tryTo(unit);

  if (problems.length > 0) {
    const list = problems.map((problem) => `\n  ${problem}`).join('');
    throw new RecadoError(
      'contract_incomplete',
      `Everything is installed except the following, where nothing was changed:${list}\nCorrect the tables or the files, then run "${commandLine('migrate')}" again.`,
    );
  }
  return applied;
}

/** Runs a unit in a transaction of its own, and says what its statements returned. */
async function apply(session: pg.Client, unit: Unit, patience: Patience): Promise<unknown[]> {
  return retryWhileBusy(unit.name, patience, async () => {
    const outcomes: unknown[] = [];
    try {
      await session.query('begin');
      for (const part of unit.parts) outcomes.push(...(await runPart(session, part)));
      await session.query(
        `insert into relay.applied_sql (file, hash) values ($1, $2)
         on conflict (file) do update set hash = excluded.hash, applied_at = now()`,
        [unit.name, unit.hash],
      );
      await session.query('commit');
      return outcomes;
    } catch (error) {
      await session.query('rollback').catch(() => undefined); // the connection is gone, and the transaction with it
      throw error;
    }
  });
}

/** The value of the first row of each statement. */
async function runPart(session: pg.Client, { file, text }: Part): Promise<unknown[]> {
  try {
    const results: pg.QueryResult<Record<string, unknown>>[] = [await session.query(text)].flat();
    return results.map(({ rows }) => rows[0] && Object.values(rows[0])[0]);
  } catch (error) {
    const position = errorField(error, 'position');
    if (error instanceof Error && file !== undefined) {
      const line =
        position === undefined ? '' : ` line ${text.slice(0, Number(position)).split('\n').length}`;
      error.message = `${file}${line}: ${error.message}`;
    }
    throw error;
  }
}

/** Runs `work`, and retries it while a busy table or a deadlock stops it. `work` rolls back when it fails. */
export async function retryWhileBusy<T>(
  what: string,
  patience: Patience,
  work: () => Promise<T>,
): Promise<T> {
  const { log, patienceMs } = patience;
  const deadline = Date.now() + patienceMs;
  for (let attempt = 1; ; attempt += 1) {
    try {
      return await work();
    } catch (error) {
      // lock_not_available, deadlock_detected, and roles that another database of the cluster changes just now.
      const passing =
        ['55P03', '40P01'].includes(errorCode(error) ?? '') || /tuple concurrently/.test(errorText(error));
      if (!passing || Date.now() > deadline) throw error;
      log.say('migrate_busy', { what, error: errorText(error), attempt });
      // Writers that queued behind us go first.
      await delay(Math.min(5_000, 100 * 2 ** attempt) * (0.5 + Math.random()));
    }
  }
}

// ---------------------------------------------------------------------------------------------------------
// Units.

/** The units of a folder of sql/, in the order of their application. */
async function readUnits(root: string, folder: string, history: string): Promise<Unit[]> {
  const path = join(root, 'sql', folder);
  const names = (await readdir(path)).filter((name) => name.endsWith('.sql')).sort();
  const files = await Promise.all(
    names.map(async (name) => ({
      file: `${folder}/${name}`,
      text: await readFile(join(path, name), 'utf8'),
    })),
  );
  if (folder === 'relay') return [makeUnit(`${folder}/*.sql`, files, history)];
  // Numbered files make what a migration may have dropped; the others are the calls of an event.
  return files.map((part) => makeUnit(part.file, [part], /\/\d/.test(part.file) ? history : ''));
}

function makeUnit(name: string, parts: readonly Part[], history = ''): Unit {
  const hash = createHash('sha256').update(history);
  // A comment that changes is no reason to publish again over what a DBA changed.
  for (const { text } of parts) hash.update('\0').update(text.replace(/^--.*\n/gm, ''));
  return { name, parts, hash: hash.digest('hex') };
}

/** A published event as its catalogue rows describe it, in the words of this version of sql/relay. */
async function republications(session: pg.Client, version: string): Promise<Unit[]> {
  const { rows } = await session.query<{ event: string; call: string }>(
    `select distinct event, format('select relay.republish(%L)', event) as call
       from relay.catalogue order by event`,
  );
  return rows.map(({ event, call }) => makeUnit(`republished: ${event}`, [{ text: call }], version));
}

// ---------------------------------------------------------------------------------------------------------
// What the database says.

async function hashesInForce(session: pg.Client): Promise<Map<string, string>> {
  const { rows } = await session.query<{ file: string; hash: string }>(
    'select file, hash from relay.applied_sql',
  );
  return new Map(rows.map(({ file, hash }) => [file, hash]));
}

async function migrationHistory(session: pg.Client): Promise<string> {
  const { rows } = await session.query<{ history: string }>(
    "select string_agg(id || ' ' || name, ', ' order by id) as history from relay.migrations",
  );
  return rows[0]!.history;
}

/** Events whose table was dropped: if it is there again, it has no triggers. */
async function eventsWithoutTable(session: pg.Client): Promise<string[]> {
  const { rows } = await session.query<{ event: string }>(
    `select event from relay.catalogue as c
      where on_table is not null and not exists (select from pg_class as t where t.oid = c.on_table)`,
  );
  return rows.map(({ event }) => event);
}

/** What Postgres said, with its hint. */
export function sentenceOf(error: unknown): string {
  const hint = errorField(error, 'hint');
  return hint === undefined ? errorText(error) : `${errorText(error)} (${hint})`;
}
