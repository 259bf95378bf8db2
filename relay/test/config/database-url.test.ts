// Which addresses of a database are taken, and that no password in one is shown.
import { readSettings } from '../../config/settings.ts';
import { PRODUCTION, problemsOf } from './problems.ts';

describe('DATABASE_URL', () => {
  test.each([
    'postgresql://localhost/clinic',
    'postgres://app:p%23ss%2F@db:5432/clinic?sslmode=require',
    'postgres://app:p@ss@db/clinic',
    'postgres://app@/clinic?host=/var/run/postgresql',
    'postgres:///clinic?host=/var/run/postgresql',
    'postgres://app:x@[::1]:5432/clinic',
    'postgres://db/clinic?pgbouncer=false',
  ])('may be %s', (url) => {
    expect(readSettings({ ...PRODUCTION, DATABASE_URL: url }).database.url).toBe(url);
  });

  test.each([
    ['postgres://db/clinic?application_name=clinic', 'postgres://db/clinic'],
    ['postgres://db/clinic?application_name=clinic&sslmode=require', 'postgres://db/clinic?sslmode=require'],
    ['postgres://db/clinic?sslmode=require&application_name=clinic', 'postgres://db/clinic?sslmode=require'],
  ])('does not name the sessions: %s', (url, used) => {
    expect(readSettings({ ...PRODUCTION, DATABASE_URL: url }).database.url).toBe(used);
  });

  test.each([
    ['another database', 'mysql://app:hunter2@db/clinic', 'begins with postgres://'],
    ["Prisma's own scheme", 'prisma+postgres://app:hunter2@db', 'begins with postgres://'],
    ['a key-value text', 'host=db password=hunter2', 'begins with postgres://'],
    ['a port that is none', 'postgres://app:hunter2@db:port/clinic', 'percent-encoded'],
    ['a bare # in the password', 'postgres://app:1#hunter2@db/clinic', 'percent-encoded'],
    ['a bare / in the password', 'postgres://app:1/hunter2@db/clinic', 'percent-encoded'],
    ['a bare ? in the password', 'postgres://app:1?hunter2@db/clinic', 'percent-encoded'],
    ['a bare % in the password', 'postgres://app:hunter2%zz@db/clinic', 'percent-encoded'],
    ['a transaction pooler', 'postgres://app:hunter2@db/clinic?pgbouncer=true', 'LISTEN'],
  ])('may not be %s, and its password stays secret', (_, url, expected) => {
    const problems = problemsOf({ ...PRODUCTION, DATABASE_URL: url });
    expect(problems).toHaveLength(1);
    expect(problems[0]).toMatch(/^DATABASE_URL is set \(its value is not shown here\), but /);
    expect(problems[0]).toContain(expected);
    expect(problems[0]).not.toContain('hunter2');
  });
});
