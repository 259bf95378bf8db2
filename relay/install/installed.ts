// Whether Recado is in a database, for the commands that need it.

import { type ConnectOptions, openSession } from '../db/connect.ts';
import { RecadoError } from '../errors.ts';
import { commandLine } from '../package.ts';

/** @throws RecadoError `not_migrated`, `rows_missing` */
export async function requireInstalled(options: ConnectOptions): Promise<void> {
  const session = await openSession(options);
  try {
    const { rows } = await session.query<{ database: string; installed: boolean }>(
      "select current_database() as database, to_regclass('relay.events') is not null as installed",
    );
    const { database, installed } = rows[0]!;
    if (installed) {
      const { rows: identity } = await session.query('select from relay.installation');
      if (identity.length > 0) return;
      throw new RecadoError(
        'rows_missing',
        `The tables of Recado in database "${database}" are without their rows, as pg_dump --schema-only restores them: run "${commandLine('migrate')}", which says what to do.`,
      );
    }
    throw new RecadoError(
      'not_migrated',
      `There is no Recado in database "${database}": run "${commandLine('migrate')}" first, or correct DATABASE_URL.`,
    );
  } finally {
    await session.end();
  }
}
