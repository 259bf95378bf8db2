// An application whose tables Django made.
import { existsSync } from 'node:fs';
import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { TestDatabase } from '../postgres.ts';
import { type Orm, run } from './orm.ts';

const PYTHON = '/usr/bin/python3';
export const djangoIsInstalled = existsSync('/usr/lib/python3/dist-packages/django');

/** A migration that runs the SQL of the file beside it. */
const RUN_SQL = `
from pathlib import Path
from django.db import migrations

class Migration(migrations.Migration):
    dependencies = [("clinic", "0001_initial")]
    operations = [migrations.RunSQL(Path(__file__).with_suffix(".sql").read_text())]
`;

export function withDjango(folder: string, { url, pool }: TestDatabase): Orm {
  const manage = (...args: string[]) =>
    run(PYTHON, ['manage.py', ...args], {
      cwd: folder,
      env: { DATABASE_URL: url, PYTHONDONTWRITEBYTECODE: '1' },
    });
  const models = join(folder, 'clinic/models.py');
  return {
    tenantId: 'tenant_id',
    doctorId: 'doctor_id',
    async migrate() {
      await manage('makemigrations', 'clinic');
      await manage('migrate');
    },
    async addMigration(name, sql) {
      const migration = join(folder, `clinic/migrations/0002_${name}`);
      await writeFile(`${migration}.sql`, sql);
      await writeFile(`${migration}.py`, RUN_SQL);
      await manage('migrate');
    },
    async migrateAgain() {
      const text = await readFile(models, 'utf8');
      await writeFile(
        models,
        text.replace(
          'text = models.TextField()',
          'text = models.TextField()\n    seen_at = models.DateTimeField(null=True)',
        ),
      );
      const made = await manage('makemigrations', 'clinic');
      expect(made.match(/^ +- .*/gm)).toEqual(['    - Add field seen_at to message']);
      await manage('migrate');
    },
    undo: () => pool.query('alter table public.messages drop seen_at'),
    async checkDrift() {
      await manage('makemigrations', '--check', '--dry-run');
      await manage('migrate', '--check');
      const seen = await manage('inspectdb');
      const tables = [...seen.matchAll(/db_table = '(\w+)'/g)].map(([, table]) => table).sort();
      expect(tables).toEqual([
        'appointments',
        'chats',
        'django_migrations',
        'doctors',
        'messages',
        'tenants',
      ]);
    },
  };
}
