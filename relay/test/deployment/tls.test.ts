// The examples of TLS in front of the relays: each is what its program takes, and agrees with the rest.
import { execFile } from 'node:child_process';
import { existsSync } from 'node:fs';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { makeCertificate } from '../certificate.ts';
import { readFile } from './compose.ts';

const run = promisify(execFile);
let folder: string;
let pem: string;

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'recado-proxies-'));
  const [key, certificate] = [join(folder, 'key'), join(folder, 'crt')];
  await makeCertificate(key, certificate, 'relay.example');
  // The three read a key and its certificate from one file.
  pem = join(folder, 'pem');
  await run('sh', ['-c', `cat "${certificate}" "${key}" > "${pem}"`]);
});

afterAll(() => rm(folder, { recursive: true, force: true }));

const PROXIES = {
  'haproxy.cfg': { program: '/usr/sbin/haproxy', check: (file: string) => ['-c', '-f', file] },
  'nginx.conf': {
    program: '/usr/sbin/nginx',
    check: (file: string) => ['-t', '-c', file, '-g', `pid ${folder}/pid; error_log stderr;`],
  },
  Caddyfile: {
    program: '/usr/bin/caddy',
    check: (file: string) => ['validate', '--adapter', 'caddyfile', '--config', file],
  },
};

describe.each(Object.entries(PROXIES))('deploy/tls/%s', (name, { program, check }) => {
  const text = readFile(`deploy/tls/${name}`);

  // In CI it is installed.
  (existsSync(program) || process.env.RECADO_CI !== undefined ? test : test.skip)(
    'is what its program takes, and a mistake in it is not',
    async () => {
      const checked = async (config: string) => {
        const file = join(folder, name);
        await writeFile(file, config.replaceAll(/\/etc\/ssl\/\w+\/relay\.example\.\w+/g, pem));
        return run(program, check(file), { env: { ...process.env, HOME: folder } });
      };
      await checked(text);
      const wrong = text.replace(/timeout connect|proxy_pass|lb_policy/, 'nonsense');
      await expect(checked(wrong)).rejects.toMatchObject({ code: 1 });
    },
  );

  test('checks the health of nodes, denies operator paths, and hides the engine-session header', () => {
    expect(text).toMatch(/\/readyz|http_503/);
    expect(text).toMatch(/metrics.*trace/);
    expect(text.toLowerCase()).toContain('engine-session');
  });
});

test('the balancer with TLS does what the one without does', () => {
  const linesOf = (file: string) => new Set(readFile(file).match(/^ {4}[a-z].*$/gm));
  const [plain, tls] = [linesOf('deploy/haproxy.cfg'), linesOf('deploy/tls/haproxy.cfg')];
  const missing = [...plain].filter((line) => !tls.has(line));
  expect(missing.map((line) => line.trim().split(' ').slice(0, 2).join(' '))).toEqual([
    'bind :3000',
    'http-request deny',
    'server relay-1',
    'server relay-2',
    'server relay-3',
  ]);
});
