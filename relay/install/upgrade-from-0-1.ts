// A database of version 0.1 becomes one of the core and its packs: the history of migrations moves into the schema
// relay, and WhatsApp's tables from public into evolution. All in one transaction.
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import type pg from 'pg';
import { errorCode, RecadoError } from '../errors.ts';
import { type Patience, retryWhileBusy, sentenceOf } from './apply-sql.ts';

interface Installed {
  readonly clinicTables: boolean;
  readonly whatsappTables: boolean;
}

/**
 * Does nothing on any other database.
 * @throws RecadoError `migration_failed`
 */
export async function upgradeFrom01(session: pg.Client, how: Patience & { root: string }): Promise<void> {
  const { rows: found } = await session.query<{ exists: boolean }>(
    "select to_regclass('recado.setup') is not null and to_regclass('relay.events') is not null as exists",
  );
  if (!found[0]!.exists) return;
  const read = (path: string) => readFile(join(how.root, path), 'utf8');
  const rename = await read('migrations/from-0.1/history.sql');
  const move = await read('migrations/from-0.1/move-chats.sql');
  const startOver = await read('migrations/from-0.1/own-chats.sql');
  const tables = (await read('migrations/whatsapp/001_chats.sql')).replace('create schema evolution;', '');
  const functions = await read('migrations/from-0.1/functions.sql');
  await retryWhileBusy('the upgrade from 0.1', how, async () => {
    try {
      await session.query('begin');
      const { rows } = await session.query<Installed>(
        'select clinic_tables as "clinicTables", whatsapp_tables as "whatsappTables" from recado.setup',
      );
      await session.query(rename);
      if (rows[0]!.whatsappTables) await session.query(move);
      else await session.query(`${tables};\n${startOver}`);
      await session.query(functions);
      await session.query('commit');
    } catch (error) {
      await session.query('rollback').catch(() => undefined);
      const code = errorCode(error);
      if (code === '55P03' || code === '40P01') throw error;
      throw new RecadoError(
        'migration_failed',
        `The upgrade from 0.1 failed: ${sentenceOf(error)}. Nothing was changed.`,
        { cause: error },
      );
    }
  });
  how.log.say('migrate_said', {
    message: 'this database of version 0.1 has become one of the core and its packs',
  });
}
