// What the tests beside an ORM ask of it, and how they run its commands.
import { type ExecFileOptionsWithStringEncoding, execFile } from 'node:child_process';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { packageRoot } from '../../package.ts';

const execute = promisify(execFile);
/** Here, so that nobody who does not run these tests installs them. */
export const packages = join(packageRoot, 'relay/test/beside/node_modules');

export interface Orm {
  /** The foreign keys of doctors and appointments, quoted. */
  readonly tenantId: string;
  readonly doctorId: string;
  /** Brings the database to the models of the folder. */
  migrate(): Promise<unknown>;
  /** Applies a migration that was written by hand. */
  addMigration(name: string, sql: string): Promise<unknown>;
  /** Adds a column to the models, makes the migration, which does nothing else, and applies it. */
  migrateAgain(): Promise<unknown>;
  /** Takes the column back from the database. */
  undo(): Promise<unknown>;
  /** Rejects where the database is not what the models say. */
  checkDrift(): Promise<unknown>;
}

/** @returns what it prints. @throws Error with all that it printed */
export function run(
  program: string,
  args: string[],
  options: Omit<ExecFileOptionsWithStringEncoding, 'encoding'> = {},
): Promise<string> {
  return execute(program, args, { maxBuffer: 2 ** 26, ...options }).then(
    ({ stdout }) => stdout,
    (error: { message: string; stdout: string }) => {
      throw new Error(`${error.message}\n${error.stdout}`);
    },
  );
}
