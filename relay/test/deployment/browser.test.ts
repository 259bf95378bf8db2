// The listeners that the clinic's pages have, to the letter, in a page of another site, with stock clients behind the
// shipped load balancer; the node they are on is killed. npm run test:browser; it needs a Chromium and HAProxy.
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { createServer, type Server } from 'node:http';
import { join } from 'node:path';
import { transformSync } from '@swc/core';
import { type Browser, chromium, type Page } from 'playwright-core';
import { packageRoot } from '../../package.ts';
import { portOf } from '../../port.ts';
import { type Clinic, openClinic } from '../clinic.ts';
import { deadPort, SECRET, token, until } from '../world.ts';
import { type Balancer, readFile, startBalancer } from './compose.ts';

const CHROMIUM = process.env.CHROMIUM ?? '/usr/bin/chromium';
const FLAGS = ['--headless', '--no-sandbox', '--disable-gpu', '--no-first-run'];
const NODES = ['relay-1', 'relay-2'];

const LISTENERS = `
socket.on('doctors.deleted', (doctorId: number) => {
  // Remove médico da lista pelo ID
  setDoctors((prev) =>
    prev.filter((doctor) => doctor.id != String(doctorId))
  );
});

// List.tsx
socket.on('appointmnents.finished', (appointment: Appointment) => {
  // Remove o agendamento da lista de espera
  setListAppointments((prev) =>
    prev.filter((apt) => apt.id !== appointment.id)
  );
});
`;

/** What a component would hold, and how a page connects. */
const AROUND = `
const state = (window as any).state = { doctors: [], appointments: [], connects: 0, resyncs: 0 };
const setDoctors = (change: (prev: any[]) => any[]) => { state.doctors = change(state.doctors); };
const setListAppointments = (change: (prev: any[]) => any[]) => { state.appointments = change(state.appointments); };
const query = new URLSearchParams(location.search);
const transports = query.get('transports');
const socket = io(query.get('relay'), {
  auth: { token: query.get('token') },
  ...(transports && { transports: transports.split(',') }),
});
socket.on('connect', () => { state.connects += 1; });
socket.on('relay:resync', () => { state.resyncs += 1; });
`;

interface State {
  doctors: { id: string }[];
  appointments: { id: number }[];
  connects: number;
  resyncs: number;
}

let clinic: Clinic;
let site: Server;
let origin: string;
let balancer: Balancer;
let browser: Browser;
const nodes = new Map<string, ChildProcess>();
const ports: Record<string, number> = {};

async function startNode(name: string): Promise<void> {
  const env = {
    ...{ ...process.env, NODE_OPTIONS: '', DATABASE_URL: clinic.database.url, JWT_SECRET: SECRET },
    ...{ HOST: '127.0.0.1', PORT: String(ports[name]), CORS_ORIGIN: origin, TRUSTED_PROXIES: '1' },
  };
  const main = join(packageRoot, 'dist/relay/main.js');
  nodes.set(name, spawn(process.execPath, [main, 'relay'], { env, stdio: 'ignore' }));
  const ready = async () => (await fetch(`http://127.0.0.1:${ports[name]}/readyz`).catch(() => null))?.ok;
  await until(`${name} is ready`, ready, 30_000);
}

async function kill(name: string): Promise<void> {
  const node = nodes.get(name)!;
  const ended = once(node, 'exit');
  node.kill('SIGKILL');
  await ended;
}

beforeAll(async () => {
  clinic = await openClinic();
  const { code } = transformSync(AROUND + LISTENERS, {
    jsc: { parser: { syntax: 'typescript' }, target: 'es2022' },
  });
  const files: Record<string, [string, string]> = {
    '/': ['text/html', '<script src="/io.js"></script><script src="/page.js"></script>'],
    '/io.js': ['text/javascript', readFile('node_modules/socket.io-client/dist/socket.io.min.js')],
    '/page.js': ['text/javascript', code],
  };
  site = createServer((request, response) => {
    const [type, body] = files[new URL(request.url!, 'http://site').pathname] ?? ['text/plain', ''];
    response.setHeader('content-type', `${type}; charset=utf-8`);
    response.end(body);
  }).listen(0, '127.0.0.1');
  await once(site, 'listening');
  // Another site than 127.0.0.1: no cookie of the load balancer's would come back.
  origin = `http://localhost:${portOf(site)}`;
  for (const name of NODES) {
    ports[name] = await deadPort();
    await startNode(name);
  }
  balancer = await startBalancer(ports);
  browser = await chromium.launch({ executablePath: CHROMIUM, args: FLAGS });
}, 120_000);

afterAll(async () => {
  await browser?.close();
  await balancer?.close();
  for (const name of nodes.keys()) await kill(name);
  site?.close();
  await clinic?.close();
}, 60_000);

const stateOf = (page: Page) => page.evaluate<State>('state');

test('nothing is missed, by whatever transport, when each node is killed in turn', async () => {
  const { writer } = clinic;
  const { rows: doctors } = await writer.query<{ id: number }>(
    `insert into public.doctors ("accountId", name) select 1, 'Dr. ' || i from generate_series(1, 60) as i returning id`,
  );
  await writer.query(
    `insert into public.appointments (id, "accountId", "doctorId", "patientId", "statusId", date, "startTime", "endTime")
     select 1000 + i, 1, 1, 456, 1, '2025-01-23', '09:00', '09:15' from generate_series(1, 60) as i`,
  );
  const bearer = await token('1');
  const pages: Page[] = [];
  // As the client chooses itself, each alone; enough of them that both nodes have some.
  for (const transports of ['', 'polling', 'websocket', '', 'polling', 'websocket']) {
    const page = await browser.newPage();
    pages.push(page);
    await page.goto(
      `${origin}/?relay=http://127.0.0.1:${balancer.port}&token=${bearer}&transports=${transports}`,
    );
    await until(`a page is connected (${transports})`, async () => (await stateOf(page)).connects === 1);
    const lists = { doctors, appointments: doctors.map((_, i) => ({ id: 1001 + i })) };
    await page.evaluate(`Object.assign(state, ${JSON.stringify(lists)})`);
  }

  let gone = 0;
  const change = async (times: number) => {
    for (let i = 0; i < times; i += 1) {
      await writer.query('update public.doctors set "deletedAt" = now() where id = $1', [doctors[gone]!.id]);
      await writer.query(
        `update public.appointments set "statusId" = (select id from public."appointmentStatuses" where code = 'FINALIZADO') where id = $1`,
        [1001 + gone],
      );
      gone += 1;
    }
  };
  const upToDate = async () => {
    for (const page of pages) {
      await until(`a page has lost ${gone} of each`, async () => {
        const { doctors: left, appointments } = await stateOf(page);
        return left.length === 60 - gone && appointments.length === 60 - gone;
      });
    }
  };
  await change(10);
  await upToDate();
  for (const page of pages) expect(await stateOf(page)).toMatchObject({ connects: 1, resyncs: 0 });
  for (const name of NODES) {
    const killed = kill(name);
    await change(20);
    await killed;
    await change(5);
    await upToDate();
    await startNode(name);
  }
  for (const page of pages) {
    const { connects, resyncs } = await stateOf(page);
    expect(resyncs).toBe(0);
    expect([2, 3]).toContain(connects);
  }
}, 120_000);
