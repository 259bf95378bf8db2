// What the README and the guides show is run: TypeScript is compiled against the contract, SQL and shell are executed
// on a clinic's database (one for each page, in the order of the page), JSON and YAML are parsed, a proxy's
// configuration is checked by the proxy.
import { execFile } from 'node:child_process';
import { existsSync, readdirSync } from 'node:fs';
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { parseAllDocuments } from 'yaml';
import { packageRoot } from '../../package.ts';
import { openClinic } from '../clinic.ts';
import { SECRET } from '../world.ts';
import { type Snippet, snippetsOf } from './snippets.ts';

const run = promisify(execFile);
const docs = readdirSync(join(packageRoot, 'docs'), { recursive: true, encoding: 'utf8' });
const pages = [
  'README.md',
  'CONTRIBUTING.md',
  'relay/client/README.md',
  ...docs.map((name) => `docs/${name}`),
]
  .filter((name) => name.endsWith('.md'))
  .sort();
const snippets = pages.flatMap(snippetsOf);
const LANGUAGES = ['ts', 'tsx', 'js', 'sql', 'sh', 'json', 'yaml', 'caddyfile'];
const TYPED = ['ts', 'tsx', 'js'];
const CADDY = '/usr/bin/caddy';
/** Of one shell snippet, in seconds. timeout(1) ends the processes it started as well. */
const WITHIN = '60';

const where = ({ page, line }: Snippet) => `${page}:${line}`;
const runs = ({ notRun }: Snippet) => notRun === null;

test('every snippet has a language that is run, or says why it is not', () => {
  const unknown = snippets.filter((snippet) => runs(snippet) && !LANGUAGES.includes(snippet.language));
  expect(unknown.map(where)).toEqual([]);
  expect(snippets.filter(({ notRun }) => notRun !== null && notRun.length < 10).map(where)).toEqual([]);
});

test('TypeScript and JavaScript compile, with the types of the contract', async () => {
  // Beneath our package.json, so that packages are found.
  await mkdir(join(packageRoot, 'artifacts'), { recursive: true });
  const folder = await mkdtemp(join(packageRoot, 'artifacts', 'guides-'));
  const clinic = await openClinic();
  try {
    await writeFile(
      join(folder, 'events.ts'),
      await recado(clinic.database.url, 'contract', '--format', 'typescript'),
    );
    const names = new Map<string, Snippet>();
    for (const [index, snippet] of snippets.entries()) {
      if (!runs(snippet) || !TYPED.includes(snippet.language)) continue;
      const name = `snippet${index}.${snippet.language === 'tsx' ? 'tsx' : 'ts'}`;
      names.set(name, snippet);
      await writeFile(join(folder, name), `export {};\n${snippet.given}\n${snippet.text}`);
    }
    await writeFile(
      join(folder, 'tsconfig.json'),
      JSON.stringify({
        compilerOptions: {
          ...{ noEmit: true, strict: true, noImplicitAny: false, skipLibCheck: true, jsx: 'react-jsx' },
          ...{ target: 'es2022', lib: ['es2022', 'dom'], types: ['node'], module: 'esnext' },
          ...{ moduleResolution: 'bundler', allowImportingTsExtensions: true },
          // Compiled from its source: no build is needed.
          paths: {
            'recado-client': [join(packageRoot, 'relay/client/client.ts')],
            'recado-client/*': [join(packageRoot, 'relay/client/*.ts')],
          },
        },
        include: ['*'],
      }),
    );
    const tsc = join(packageRoot, 'node_modules/typescript/bin/tsc');
    const said = await run(process.execPath, [tsc, '-p', folder], { cwd: folder }).then(
      () => '',
      (error: { stdout: string }) => error.stdout,
    );
    const named = said.replace(/snippet\d+\.tsx?/g, (name) => `${where(names.get(name)!)} (${name})`);
    expect(named).toBe('');
    expect(names.size).toBeGreaterThan(5);
  } finally {
    await rm(folder, { recursive: true });
    await clinic.close();
  }
});

const withDatabase = pages.filter((page) =>
  snippets.some((s) => s.page === page && runs(s) && ['sql', 'sh'].includes(s.language)),
);

test.each(withDatabase)(
  'SQL and shell of %s run',
  async (page) => {
    const clinic = await openClinic();
    const folder = await mkdtemp(join(tmpdir(), 'recado-guides-'));
    try {
      for (const snippet of snippets.filter((s) => s.page === page && runs(s))) {
        if (snippet.language === 'sql') {
          // On their own: the snippet may begin a transaction and roll it back.
          for (const text of [snippet.given, snippet.text]) {
            await clinic.database.pool.query(text).catch((error: Error) => {
              throw new Error(`${where(snippet)}: ${error.message}`);
            });
          }
        }
        if (snippet.language === 'sh') await shell(snippet, clinic.database.url, folder);
      }
    } finally {
      await rm(folder, { recursive: true });
      await clinic.close();
    }
  },
  180_000,
);

test('JSON and YAML can be read', () => {
  for (const snippet of snippets.filter(runs)) {
    if (snippet.language === 'json') expect(() => JSON.parse(snippet.text)).not.toThrow();
    if (snippet.language === 'yaml') {
      expect([where(snippet), parseAllDocuments(snippet.text).flatMap(({ errors }) => errors)]).toEqual([
        where(snippet),
        [],
      ]);
    }
  }
});

// In CI it is installed.
(existsSync(CADDY) || process.env.RECADO_CI !== undefined ? test : test.skip)(
  'Caddy takes its configuration',
  async () => {
    const folder = await mkdtemp(join(tmpdir(), 'recado-guides-'));
    try {
      for (const { language, text } of snippets.filter(runs)) {
        if (language !== 'caddyfile') continue;
        const file = join(folder, 'Caddyfile');
        await writeFile(file, text);
        await run(CADDY, ['validate', '--adapter', 'caddyfile', '--config', file], {
          env: { ...process.env, HOME: folder },
        });
      }
    } finally {
      await rm(folder, { recursive: true });
    }
  },
);

/** In a folder of the page's own, where `recado` and `npx recado` are the ones of this repository. */
async function shell(snippet: Snippet, databaseUrl: string, folder: string): Promise<void> {
  const script = `set -euo pipefail
    recado() { node '${join(packageRoot, 'dist/relay/main.js')}' "$@"; }
    npx() { "$@"; }
    npm() {
      [ "$1" = run ] || { echo "npm $1 would change the repository beneath this test" >&2; return 1; }
      command npm --prefix '${packageRoot}' "$@"
    }
    ${snippet.given}\n${snippet.text}`;
  const words = ['--kill-after=5', WITHIN, 'bash', '-c', script];
  await run('timeout', words, { cwd: folder, env: environment(databaseUrl) }).catch(
    (error: Error & { stdout: string; stderr: string }) => {
      throw new Error(`${where(snippet)}: ${error.message}\n${error.stdout}\n${error.stderr}`);
    },
  );
}

async function recado(databaseUrl: string, ...words: string[]): Promise<string> {
  const main = join(packageRoot, 'dist/relay/main.js');
  return (await run(process.execPath, [main, ...words], { env: environment(databaseUrl) })).stdout;
}

function environment(databaseUrl: string): NodeJS.ProcessEnv {
  return {
    ...process.env,
    DATABASE_URL: databaseUrl,
    JWT_SECRET: SECRET,
    NODE_OPTIONS: '',
    LOG_LEVEL: 'warn',
  };
}
