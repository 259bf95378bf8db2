// Writers at full speed: pgbench where it is installed, else as many connections of our own driver.
import { spawn } from 'node:child_process';
import { access, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';
import pg from 'pg';
import { DOCTORS } from './peers.ts';

export interface Load {
  readonly databaseUrl: string;
  readonly writers: number;
  readonly seconds: number;
  /** What each of them runs after its UPDATE. */
  readonly afterwards: string | null;
}

export interface Loaded {
  readonly perSecond: number;
  readonly commits: number;
}

/** The first part of a run is left out: connections are made, functions compiled, the gate is still open. */
const WARM_UP = 1 / 3;
const PGBENCH = process.env.PGBENCH ?? '/usr/bin/pgbench';
const UPDATE = 'update public.doctors set "isBusy" = not "isBusy" where id =';

export async function findDriver(): Promise<'pgbench' | 'node'> {
  return access(PGBENCH).then(
    () => 'pgbench',
    () => 'node',
  );
}

/** Every writer commits one small UPDATE after the other. */
export async function write(load: Load): Promise<Loaded> {
  return (await findDriver()) === 'pgbench' ? withPgbench(load) : withNode(load);
}

async function withPgbench({ databaseUrl, writers, seconds, afterwards }: Load): Promise<Loaded> {
  const folder = await mkdtemp(join(tmpdir(), 'recado-bench-'));
  try {
    const script = join(folder, 'write.sql');
    await writeFile(script, `\\set id random(1, ${DOCTORS})\n${UPDATE} :id;\n${afterwards ?? ''}\n`);
    const flags = [
      '-n',
      '-P',
      '1',
      '-M',
      'prepared',
      '-c',
      `${writers}`,
      '-j',
      '2',
      '-T',
      `${seconds}`,
      '-f',
      script,
    ];
    const child = spawn(PGBENCH, [...flags, databaseUrl], { stdio: ['ignore', 'pipe', 'pipe'] });
    const [said, complaints] = await Promise.all([text(child.stdout), text(child.stderr)]);
    const commits = /number of transactions actually processed: (\d+)/.exec(said)?.[1];
    const progress = [...complaints.matchAll(/^progress: [\d.]+ s, ([\d.]+) tps/gm)].map(([, tps]) =>
      Number(tps),
    );
    const steady = progress.slice(Math.floor(progress.length * WARM_UP));
    if (commits === undefined || steady.length === 0 || /aborted|error:/.test(complaints))
      throw new Error(`pgbench did not finish: ${said}${complaints}`);
    const perSecond = steady.reduce((sum, tps) => sum + tps, 0) / steady.length;
    return { commits: Number(commits), perSecond };
  } finally {
    await rm(folder, { recursive: true });
  }
}

async function withNode({ databaseUrl, writers, seconds, afterwards }: Load): Promise<Loaded> {
  const sessions = Array.from({ length: writers }, () => new pg.Client({ connectionString: databaseUrl }));
  await Promise.all(sessions.map((session) => session.connect()));
  const began = performance.now();
  const until = began + seconds * 1_000;
  const steadyFrom = began + seconds * 1_000 * WARM_UP;
  let commits = 0;
  let steady = 0;
  await Promise.all(
    sessions.map(async (session) => {
      while (performance.now() < until) {
        const doctor = 1 + Math.floor(Math.random() * DOCTORS);
        await session.query({ name: 'write', text: `${UPDATE} $1`, values: [doctor] });
        if (afterwards !== null) await session.query(afterwards);
        commits += 1;
        if (performance.now() > steadyFrom) steady += 1;
      }
    }),
  );
  const perSecond = steady / ((performance.now() - steadyFrom) / 1_000);
  await Promise.all(sessions.map((session) => session.end()));
  return { commits, perSecond };
}
