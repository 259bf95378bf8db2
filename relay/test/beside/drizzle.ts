// An application whose tables Drizzle made.
import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { TestDatabase } from '../postgres.ts';
import { type Orm, packages, run } from './orm.ts';

export function withDrizzle(folder: string, { url, pool }: TestDatabase): Orm {
  const drizzle = (...args: string[]) =>
    run(process.execPath, [join(packages, 'drizzle-kit/bin.cjs'), ...args], {
      cwd: folder,
      env: { PATH: process.env.PATH, DATABASE_URL: url },
    });
  /** @returns the file of the new migration */
  const generate = async (name: string, ...options: string[]) => {
    const printed = await drizzle('generate', '--name', name, ...options);
    return join(folder, `${/migrations\/\w+\.sql/.exec(printed)}`);
  };
  const schema = join(folder, 'schema.js');
  return {
    tenantId: '"tenantId"',
    doctorId: '"doctorId"',
    async migrate() {
      await generate('init');
      await drizzle('migrate');
    },
    async addMigration(name, sql) {
      await writeFile(await generate(name, '--custom'), sql);
      await drizzle('migrate');
    },
    async migrateAgain() {
      const text = await readFile(schema, 'utf8');
      await writeFile(
        schema,
        text.replace('text: text().notNull(),', 'text: text().notNull(),\n  seenAt: timestamp(),'),
      );
      const migration = await readFile(await generate('seen'), 'utf8');
      expect(migration).toBe('ALTER TABLE "messages" ADD COLUMN "seenAt" timestamp;');
      await drizzle('migrate');
    },
    undo: () => pool.query('alter table public.messages drop "seenAt"'),
    async checkDrift() {
      // Without a question it would drop what the models do not have.
      expect(await drizzle('push', '--force')).toContain('No changes detected');
    },
  };
}
