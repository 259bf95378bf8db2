// What a newcomer types first: the whole demo on an embedded Postgres, in a folder that was empty; and the relay as an
// npm script.
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { packageRoot } from '../../package.ts';
import { ends } from '../ends.ts';
import { Client, deadPort, freshDatabase, SECRET, until } from '../world.ts';
import { recado } from './recado.ts';

interface Started {
  readonly child: ChildProcess;
  /** What it has printed by now. */
  readonly said: () => string;
  /** When it and all that has its output have ended. */
  readonly closed: Promise<unknown[]>;
}

function run(program: string, args: string[], env: Record<string, string>): Started {
  const child = spawn(program, args, {
    cwd: packageRoot,
    env: { PATH: process.env.PATH, HOME: process.env.HOME, HOST: '127.0.0.1', ...env },
    stdio: ['ignore', 'pipe', 'pipe'],
    // A group of its own, which a test that fails ends as a whole.
    detached: true,
  });
  let open = true;
  const closed = once(child, 'close').finally(() => {
    open = false;
  });
  ends.push(() => open && process.kill(-child.pid!, 'SIGKILL'));
  let text = '';
  for (const stream of [child.stdout, child.stderr]) {
    stream.on('data', (chunk: Buffer) => {
      text += chunk.toString();
    });
  }
  return { child, said: () => text, closed };
}

test('recado start: a page, a token that connects, an event of a statement, and an end', async () => {
  const dataDir = await mkdtemp(join(tmpdir(), 'recado-start-'));
  // Postgres may outlive the relay that started it by a moment.
  ends.push(() => rm(dataDir, { recursive: true, force: true, maxRetries: 20, retryDelay: 50 }));
  const [port, databasePort] = [await deadPort(), await deadPort()];
  const env = { DATA_DIR: dataDir, PORT: String(port), EMBEDDED_PORT: String(databasePort) };
  const { child, said, closed } = run(
    process.execPath,
    [join(packageRoot, 'dist/relay/main.js'), 'start'],
    env,
  );
  const [, token = ''] = await until(
    'it shows a token',
    () => /account 1.*\n\s+(ey\S+)/.exec(said()),
    90_000,
  );

  const page = await fetch(`http://127.0.0.1:${port}/`);
  expect([page.status, await page.text()]).toEqual([200, expect.stringContaining('Recado')]);
  const client = new Client(port, { token });
  ends.push(() => client.close());
  await client.live();
  const statement = `update doctors set "deletedAt" = now() where id = 123`;
  expect(await recado(['sql', statement], { ...env, LOG_LEVEL: 'warn' })).toMatchObject({ code: 0 });
  await until('the event arrives', () => client.of('doctors.deleted').length === 1);

  child.kill('SIGTERM');
  expect(await closed).toEqual([0, null]);
}, 120_000);

/** npm hands a signal to the shell of the script. The script says `exec`, so that no shell is left between. */
test('npm run relay: npm hands SIGTERM on, waits for the relay, and reports its exit code', async () => {
  const database = await freshDatabase();
  ends.push(() => database.close());
  const { child, said, closed } = run('npm', ['run', 'relay'], {
    ...{ DATABASE_URL: database.url, JWT_SECRET: SECRET, PORT: '0', LOG_FORMAT: 'json' },
  });
  await until('it listens', () => said().includes('relay_listening'), 60_000);
  const ended = once(child, 'exit').then(([code]) => ({ code, stopped: said().includes('process_stopped') }));
  child.kill('SIGTERM');
  await closed;
  // A shell in between would die of the signal, and npm with it, while the relay still runs.
  expect(await ended).toEqual({ code: 0, stopped: true });
}, 120_000);

/** Loaded before the command: the signal comes while the line is written. */
const SIGNAL_AT_ONCE = `
  import fs, { write } from 'node:fs';
  fs.write = (fd, text, ...rest) => {
    if (String(text).includes('relay_listening')) process.kill(process.pid, 'SIGTERM');
    return write(fd, text, ...rest);
  };
`;

test.each(['1', '2'])(
  'recado relay of %s processes: a signal that comes with its first word ends it in order',
  async (count) => {
    const database = await freshDatabase();
    ends.push(() => database.close());
    const { said, closed } = run(process.execPath, [join(packageRoot, 'dist/relay/main.js'), 'relay'], {
      NODE_OPTIONS: `--import=data:text/javascript,${encodeURIComponent(SIGNAL_AT_ONCE)}`,
      DATABASE_URL: database.url,
      JWT_SECRET: SECRET,
      PORT: '0',
      LOG_FORMAT: 'json',
      RELAY_PROCESSES: count,
    });
    expect(await closed).toEqual([0, null]);
    expect(said()).toContain('process_stopped');
  },
  120_000,
);
