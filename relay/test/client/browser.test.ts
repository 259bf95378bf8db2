// A fresh React and a fresh Vue project, as somebody would make them: recado-client as npm packs it, installed from its
// tarball, types from the contract, built with Vite, opened in a browser of another origin than the relay's.
// npm run test:browser; it needs the package registry and a Chromium.
import { execFile } from 'node:child_process';
import { once } from 'node:events';
import { mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { createServer, type Server } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { type Browser, chromium, type Page } from 'playwright-core';
import { packageRoot } from '../../package.ts';
import { portOf } from '../../port.ts';
import type { Relay } from '../../server/relay.ts';
import { type Database, freshDatabase, SECRET, startNode, token } from '../world.ts';

const run = promisify(execFile);
const CHROMIUM = process.env.CHROMIUM ?? '/usr/bin/chromium';
const FLAGS = ['--headless', '--no-sandbox', '--disable-gpu', '--no-first-run'];
/** Of an installation or a build. */
const WITHIN_MS = 180_000;

const OPTIONS = `
  const open = () => connect<ServerToClientEvents>({
    url: new URLSearchParams(location.search).get('relay')!,
    token: () => new URLSearchParams(location.search).get('token')!,
  });
  interface Note { id: number; body: string }
  const notes = {
    load: async (): Promise<{ rows: Note[]; position: string }> => (await fetch('/api/notes')).json(),
    key: 'id' as const,
    on: { 'note.added': upsert, 'note.deleted': remove },
  };`;

const IMPORTS = `
  import { connect, remove, upsert } from 'recado-client';
  import type { ServerToClientEvents } from './events';`;

const PROJECTS = {
  react: {
    packages: ['react', 'react-dom', '@types/react', '@types/react-dom'],
    file: 'main.tsx',
    program: `${IMPORTS}
      import { StrictMode } from 'react';
      import { createRoot } from 'react-dom/client';
      import { useLiveList, useRecado, useStatus } from 'recado-client/react';
      ${OPTIONS}
      function Notes() {
        const client = useRecado(open);
        const { rows } = useLiveList(client, notes);
        return <main data-status={useStatus(client)}>{rows.map(({ id, body }) => <p key={id}>{body}</p>)}</main>;
      }
      createRoot(document.getElementById('app')!).render(<StrictMode><Notes /></StrictMode>);`,
  },
  vue: {
    packages: ['vue'],
    file: 'main.ts',
    program: `${IMPORTS}
      import { createApp, defineComponent, h } from 'vue';
      import { useLiveList, useRecado, useStatus } from 'recado-client/vue';
      ${OPTIONS}
      createApp(defineComponent(() => {
        const client = useRecado(open);
        const list = useLiveList(client, notes);
        const status = useStatus(client);
        return () => h('main', { 'data-status': status.value },
          list.value.rows.map(({ id, body }) => h('p', { key: id }, body)));
      })).mount('#app');`,
  },
};

let folder: string;
let tarball: string;
let types: string;
let database: Database;
let relay: Relay;
let browser: Browser;
let site: Server;
let siteFolder: string;
let origin: string;

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'recado-client-browser-'));
  const { stdout } = await run('npm', ['pack', '--json', '--pack-destination', folder], {
    cwd: join(packageRoot, 'relay/client'),
  });
  tarball = join(folder, /"filename":\s*"([^"]+)"/.exec(stdout)![1]!);
  database = await freshDatabase();
  await database.query(`create table public.notes (
    id int generated always as identity primary key, account text not null, body text not null)`);
  await database.query(`select relay.publish('note.added', 'public.notes', 'INSERT', account => 'new.account',
    payload => $$jsonb_build_object('id', new.id, 'body', new.body)$$, payload_schema =>
    '{"type": "object", "required": ["id", "body"], "properties": {"id": {"type": "integer"}, "body": {"type": "string"}}}')`);
  await database.query(`select relay.publish('note.deleted', 'public.notes', 'DELETE', account => 'old.account',
    payload => 'to_jsonb(old.id)', payload_schema => '{"type": "integer"}')`);
  const main = join(packageRoot, 'dist/relay/main.js');
  const env = { ...process.env, DATABASE_URL: database.url, JWT_SECRET: SECRET, NODE_OPTIONS: '' };
  types = (await run(process.execPath, [main, 'contract', '--format', 'typescript'], { env })).stdout;
  // The page's server is the application's: it serves the build, and the list with its position.
  site = createServer(async (request, response) => {
    const path = new URL(request.url!, 'http://site').pathname;
    if (path === '/api/notes') {
      const session = await database.connect();
      await session.query('begin isolation level repeatable read');
      const { rows } = await session.query('select id, body from public.notes order by id');
      const positions = await session.query('select relay.position() as position');
      await session.query('commit');
      await session.end();
      response.setHeader('content-type', 'application/json');
      response.end(JSON.stringify({ rows, position: positions.rows[0].position }));
      return;
    }
    response.setHeader('content-type', path.endsWith('.js') ? 'text/javascript' : 'text/html');
    response.end(await readFile(join(siteFolder, path === '/' ? 'index.html' : path)).catch(() => ''));
  }).listen(0, '127.0.0.1');
  await once(site, 'listening');
  origin = `http://127.0.0.1:${portOf(site)}`;
  relay = await startNode(database.url, { CORS_ORIGIN: origin });
  await relay.ready();
  browser = await chromium.launch({ executablePath: CHROMIUM, args: FLAGS });
}, 120_000);

afterAll(async () => {
  await browser?.close();
  site?.close();
  await relay?.close();
  await database?.close();
  await rm(folder, { recursive: true, force: true });
});

async function build(name: keyof typeof PROJECTS): Promise<string> {
  const { packages, file, program } = PROJECTS[name];
  const project = join(folder, name);
  await mkdir(join(project, 'src'), { recursive: true });
  const write = (path: string, text: string) => writeFile(join(project, path), text);
  await write('package.json', JSON.stringify({ name, private: true, type: 'module' }));
  await write('index.html', `<div id="app"></div><script type="module" src="/src/${file}"></script>`);
  await write('src/events.ts', types);
  await write(`src/${file}`, program);
  const compilerOptions = {
    ...{ strict: true, noEmit: true, jsx: 'react-jsx', target: 'es2022', lib: ['es2022', 'dom'] },
    ...{ module: 'esnext', moduleResolution: 'bundler', types: [], skipLibCheck: true },
  };
  await write('tsconfig.json', JSON.stringify({ compilerOptions, include: ['src'] }));
  const inside = { cwd: project, timeout: WITHIN_MS, env: { ...process.env, NODE_OPTIONS: '' } };
  const install = ['install', '--prefer-offline', '--no-audit', '--no-fund', '--ignore-scripts'];
  await run('npm', [...install, tarball, ...packages, 'vite', 'typescript'], inside);
  for (const command of [['tsc'], ['vite', 'build']]) {
    await run('npx', ['--no-install', ...command], inside).catch(
      (error: { stdout: string; stderr: string }) => {
        throw new Error(`${command.join(' ')}: ${error.stdout}${error.stderr}`);
      },
    );
  }
  return join(project, 'dist');
}

const shows = (page: Page, texts: string[]) =>
  page.waitForFunction(
    `JSON.stringify([...document.querySelectorAll('main p')].map((p) => p.textContent)) === ${JSON.stringify(JSON.stringify(texts))}`,
    undefined,
    { timeout: 15_000 },
  );

test.each(['react', 'vue'] as const)(
  'a fresh %s project shows a live list, and makes one connection',
  async (name) => {
    siteFolder = await build(name);
    await database.query('truncate public.notes restart identity');
    await database.query("insert into public.notes (account, body) values ('acc-1', 'loaded')");
    const page = await browser.newPage();
    const complaints: string[] = [];
    page.on('pageerror', (error) => complaints.push(error.message));
    let sockets = 0;
    page.on('websocket', () => {
      sockets += 1;
    });
    await page.goto(`${origin}/?relay=http://127.0.0.1:${relay.port}&token=${await token('acc-1')}`);
    await page.waitForSelector('main[data-status=live]', { timeout: 15_000 });
    await shows(page, ['loaded']);
    await database.query(
      "insert into public.notes (account, body) values ('acc-1', 'live'), ('acc-2', 'hidden')",
    );
    await shows(page, ['loaded', 'live']);
    await database.query("delete from public.notes where body = 'loaded'");
    await shows(page, ['live']);
    expect({ sockets, complaints }).toEqual({ sockets: 1, complaints: [] });
    await page.close();
  },
  2 * WITHIN_MS,
);
