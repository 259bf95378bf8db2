// An application whose tables Prisma made.
import { mkdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { TestDatabase } from '../postgres.ts';
import { type Orm, packages, run } from './orm.ts';

export function withPrisma(folder: string, { url, pool }: TestDatabase): Orm {
  const prisma = (...args: string[]) =>
    run(process.execPath, [join(packages, 'prisma/build/index.js'), ...args], {
      cwd: folder,
      env: { PATH: process.env.PATH, DATABASE_URL: url, CHECKPOINT_DISABLE: '1' },
    });
  /** What a developer runs. It fails where the database is not what the migrations made of an empty one. */
  const migrateDev = (...args: string[]) => prisma('migrate', 'dev', '--skip-generate', ...args);
  const schema = join(folder, 'schema.prisma');
  return {
    tenantId: '"tenantId"',
    doctorId: '"doctorId"',
    migrate: () => migrateDev('--name', 'init'),
    async addMigration(name, sql) {
      const migration = join(folder, 'migrations', `0_${name}`);
      await mkdir(migration);
      await writeFile(join(migration, 'migration.sql'), sql);
      await prisma('migrate', 'deploy');
    },
    async migrateAgain() {
      const text = await readFile(schema, 'utf8');
      await writeFile(schema, text.replace('text   String\n', 'text   String\n  seenAt DateTime?\n'));
      const made = /migrations\/\s+└─ (\d+_seen)\//.exec(await migrateDev('--name', 'seen'))?.[1];
      const migration = await readFile(join(folder, 'migrations', `${made}`, 'migration.sql'), 'utf8');
      expect(migration).toBe('-- AlterTable\nALTER TABLE "messages" ADD COLUMN     "seenAt" TIMESTAMP(3);\n');
    },
    undo: () => pool.query('alter table public.messages drop "seenAt"'),
    async checkDrift() {
      expect(await migrateDev()).toContain('Already in sync');
      // Where the database is not what the models say, it changes it or refuses.
      expect(await prisma('db', 'push', '--skip-generate')).toContain('already in sync');
    },
  };
}
