// Recado as a process, and pages of it in a real Chromium. Every screenshot is kept in artifacts/.
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync } from 'node:fs';
import { mkdir, mkdtemp, readFile, rm } from 'node:fs/promises';
import { request } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import axe, { type AxeResults } from 'axe-core';
import { type Browser, type BrowserContextOptions, chromium, type Page } from 'playwright-core';
import { packageRoot } from '../../package.ts';
import { type Database, openDatabase } from '../world.ts';

const CHROMIUM = process.env.CHROMIUM ?? '/usr/bin/chromium';
const FLAGS = [
  ...['--headless', '--no-sandbox', '--disable-gpu', '--no-first-run', '--disable-background-networking'],
  ...['--disable-component-update', '--disable-sync'],
];
const ARTIFACTS = join(packageRoot, 'artifacts');
/** Of one step; jest's own limit would not say which. */
const WITHIN_MS = 20_000;

export interface Recado {
  url: string;
  process: ChildProcess;
}

/** The demonstration on an embedded database of its own, and a browser. */
export interface Stage {
  dataDir: string;
  demo: Recado;
  database: Database;
  /** What the browser complained about: scripts that failed, and what the policy refused. */
  complaints: string[];
  openPage(recado: Pick<Recado, 'url'>, path: string, options?: BrowserContextOptions): Promise<Page>;
  /** A page of the demonstration, live. */
  openDemo(path?: string, options?: BrowserContextOptions): Promise<Page>;
  closePages(): Promise<void>;
  close(): Promise<void>;
}

export async function openStage(): Promise<Stage> {
  if (!existsSync(CHROMIUM)) {
    throw new Error(
      `There is no Chromium at ${CHROMIUM}: install it (apt-get install -y chromium), or set CHROMIUM to where it is.`,
    );
  }
  const dataDir = await mkdtemp(join(tmpdir(), 'recado-browser-test-'));
  await mkdir(ARTIFACTS, { recursive: true });
  const demo = await startRecado({ DATA_DIR: dataDir });
  const database = openDatabase(await readFile(join(dataDir, 'database-url'), 'utf8'));
  const browser: Browser = await chromium.launch({ executablePath: CHROMIUM, args: FLAGS });
  const pages: Page[] = [];
  const complaints: string[] = [];
  const stage: Stage = {
    dataDir,
    demo,
    database,
    complaints,
    async openPage({ url }, path, options = {}) {
      const context = await browser.newContext({ reducedMotion: 'reduce', locale: 'pt-BR', ...options });
      context.setDefaultTimeout(WITHIN_MS);
      const page = await context.newPage();
      pages.push(page);
      page.on('pageerror', (error) => complaints.push(String(error.stack ?? error)));
      page.on('console', (message) => {
        if (message.type() === 'error') complaints.push(message.text());
      });
      await page.goto(url + path);
      return page;
    },
    async openDemo(path = '/', options = {}) {
      const page = await stage.openPage(demo, path, options);
      await page.getByText('Ao vivo', { exact: true }).waitFor();
      return page;
    },
    async closePages() {
      for (const page of pages.splice(0)) {
        // A request that the test answers may be under way, and has no page to come to.
        await page.unrouteAll({ behavior: 'ignoreErrors' });
        await page.context().close();
      }
    },
    async close() {
      await browser.close();
      await database.close();
      await stop(demo);
      // Postgres may outlive the relay that started it by a moment.
      await rm(dataDir, { recursive: true, force: true, maxRetries: 20, retryDelay: 50 });
    },
  };
  return stage;
}

export async function startRecado(env: Record<string, string>): Promise<Recado> {
  const inherited = { PATH: process.env.PATH, HOME: process.env.HOME, TZ: 'America/Recife' };
  const child = spawn(process.execPath, [join(packageRoot, 'dist/relay/main.js'), 'start'], {
    env: { ...inherited, PORT: '0', LOG_LEVEL: 'info', LOG_FORMAT: 'json', ...env },
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  const said: string[] = [];
  child.stderr.on('data', (chunk: Buffer) => said.push(chunk.toString()));
  for await (const line of createInterface({ input: child.stdout })) {
    said.push(line);
    const url = /(?:Open |"url":")(http:\/\/[\w.:]+)/.exec(line)?.[1];
    if (url === undefined) continue;
    child.stdout.resume();
    return { url, process: child };
  }
  throw new Error(`recado start ended:\n${said.join('\n')}`);
}

export async function stop({ process: child }: Recado): Promise<void> {
  if (child.exitCode !== null) return;
  child.kill('SIGTERM');
  await once(child, 'exit');
}

/** Through node:http, because fetch() does not let a program lie about its host. */
export async function ask(
  { url }: Recado,
  method: string,
  path: string,
  headers: Record<string, string> = {},
  body = '{}',
): Promise<{ status: number; body: string }> {
  const { hostname, port } = new URL(url);
  const sent = request({ host: hostname, port, method, path, headers });
  sent.end(method === 'GET' ? undefined : body);
  const [response] = (await once(sent, 'response')) as [import('node:http').IncomingMessage];
  let text = '';
  for await (const chunk of response) text += String(chunk);
  return { status: response.statusCode!, body: text };
}

export async function violations(page: Page): Promise<string[]> {
  await page.evaluate(axe.source);
  const found = await page.evaluate<AxeResults>('axe.run()');
  return found.violations.flatMap(({ id, nodes }) =>
    nodes.map(({ html, failureSummary = '' }) => `${id}: ${html.slice(0, 200)}\n${failureSummary}`),
  );
}

export async function screenshot(page: Page, name: string): Promise<void> {
  await page.screenshot({ path: join(ARTIFACTS, `console-${name}.png`), fullPage: true });
}
