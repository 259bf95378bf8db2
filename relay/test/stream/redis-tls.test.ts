// A Redis that speaks TLS with a certificate of its own, and lets in a user who may do no more than it must.
import { type ChildProcess, execFile, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { packageRoot } from '../../package.ts';
import { recado } from '../commands/recado.ts';
import { type Redis, redisIsMissing, startRedis } from '../redis.ts';
import { type Database, deadPort, freshDatabase, SECRET, until } from '../world.ts';

const suite = redisIsMissing ? describe.skip : describe;
const run = promisify(execFile);

suite('Redis over TLS', () => {
  let folder: string;
  let certificate: string;
  let database: Database;
  let redis: Redis;
  let env: Record<string, string>;
  let hub: ChildProcess | null = null;

  beforeAll(async () => {
    folder = await mkdtemp(join(tmpdir(), 'recado-redis-tls-'));
    const key = join(folder, 'key');
    certificate = join(folder, 'crt');
    const made = ['req', '-new', '-x509', '-nodes', '-days', '2', '-newkey', 'rsa:2048'];
    const named = ['-subj', '/CN=localhost', '-addext', 'subjectAltName=DNS:localhost,IP:127.0.0.1'];
    await run('openssl', [...made, ...named, '-keyout', key, '-out', certificate]);
    const port = String(await deadPort());
    const files = ['--tls-cert-file', certificate, '--tls-key-file', key, '--tls-ca-cert-file', certificate];
    [database, redis] = await Promise.all([
      freshDatabase(),
      startRedis(['--tls-port', port, '--tls-auth-clients', 'no', ...files]),
    ]);
    const commands = ['xadd', 'xread', 'xrevrange', 'xinfo', 'exists', 'publish', 'subscribe', 'ping'];
    const rights = ['~recado:*', '&recado:*', '-@all', ...commands.map((name) => `+${name}`)];
    await redis.command('ACL', 'SETUSER', 'recado', 'on', '>p@ss/wörd', ...rights);
    await redis.command('ACL', 'SETUSER', 'default', 'resetpass', '>another');
    env = {
      DATABASE_URL: database.url,
      JWT_SECRET: SECRET,
      STREAM_URL: `rediss://recado:${encodeURIComponent('p@ss/wörd')}@localhost:${port}`,
    };
  });
  afterAll(async () => {
    if (hub && hub.exitCode === null) {
      const ended = once(hub, 'exit');
      hub.kill('SIGTERM');
      await ended;
    }
    await redis?.close();
    await database?.close();
    await rm(folder, { recursive: true, force: true });
  });

  test('the certificate is checked, and what to do about it is said', async () => {
    const { stdout, code } = await recado(['doctor'], env);
    expect(stdout).toMatch(/BROKEN +stream: .*self-signed certificate.*NODE_EXTRA_CA_CERTS/);
    expect(stdout).not.toContain('wörd');
    expect(code).toBe(1);
  });

  test('with its authority named, a hub appends and is heard', async () => {
    const trusting = { ...env, NODE_EXTRA_CA_CERTS: certificate };
    hub = spawn(process.execPath, [join(packageRoot, 'dist/relay/main.js'), 'hub'], {
      env: { PATH: process.env.PATH, ...trusting, HOST: '127.0.0.1', PORT: String(await deadPort()) },
      stdio: 'ignore',
    });
    await until(
      'doctor hears the hub',
      async () => {
        const { stdout } = await recado(['doctor'], trusting);
        return /ok +stream: a hub appends/.test(stdout);
      },
      60_000,
    );
  }, 90_000);
});
