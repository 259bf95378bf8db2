// The console in a real browser, on a real `recado start`: what a person does, and what then stands on the screen.
// Every wait is for something that must appear.
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { BrowserContextOptions, Page } from 'playwright-core';
import { signToken } from '../../auth/sign.ts';
import { startWhatsAppDemo } from '../../evolution/demo/whatsapp.ts';
import type { Database } from '../world.ts';
import {
  ask,
  openStage,
  type Recado,
  type Stage,
  screenshot,
  startRecado,
  stop,
  violations,
} from './chromium.ts';

const OPERATOR_TOKEN = 'a-token-for-operators';

let stage: Stage;
let dataDir: string;
let demo: Recado;
let database: Database;

beforeAll(async () => {
  stage = await openStage();
  ({ dataDir, demo, database } = stage);
}, 120_000);

afterEach(async () => {
  await stage.closePages();
  expect(stage.complaints.splice(0)).toEqual([]);
});

afterAll(() => stage?.close(), 30_000);

test('finishing an appointment writes one statement; the list changes when its event is back', async () => {
  const page = await openConsole();
  await row(page, 'João Silva').getByRole('button', { name: 'Finalizar: João Silva' }).click();
  await gone(page, 'João Silva', '#serving');
  const entry = page.locator('.entry').first();
  expect(await entry.locator('.sql').textContent()).toContain('update appointments set "statusId" = 5');
  await entry
    .locator('.chips li', { hasText: 'appointmnents.finished' })
    .getByText(/^\d+ ms$/)
    .waitFor();
  await entry
    .locator('.chips li', { hasText: 'doctors.busy' })
    .getByText(/^\d+ ms$/)
    .waitFor();
  await row(page, 'Dr. Victor').getByText('Livre').waitFor();
  await page.locator('#median', { hasText: 'do commit à tela' }).waitFor();
  expect(await database.query('select "statusId" from appointments where id = 123')).toEqual([
    { statusId: 5 },
  ]);
  // The keyboard goes on where it was.
  expect(await page.evaluate('document.activeElement.tagName')).not.toBe('BODY');
  await screenshot(page, 'finished');
});

test('check-in, call, cancel, arrive: an appointment goes through the list', async () => {
  const page = await openConsole();
  await row(page, 'Ana Lima').getByRole('button', { name: 'Check-in: Ana Lima' }).click();
  await page.locator('#arrived .row', { hasText: 'Ana Lima' }).waitFor();
  await row(page, 'Ana Lima').getByRole('button', { name: 'Chamar: Ana Lima' }).click();
  await page.locator('#serving .row', { hasText: 'Ana Lima' }).waitFor();
  await row(page, 'Ana Lima').getByRole('button', { name: 'Cancelar: Ana Lima' }).click();
  await gone(page, 'Ana Lima', '#serving');
  const before = await page.locator('#arrived .row').count();
  await page.getByRole('button', { name: 'Chegou um paciente' }).click();
  await page.locator('#arrived .row').nth(before).waitFor();
});

test('a doctor is deleted: by a button, and by somebody at a terminal', async () => {
  const page = await openConsole();
  await row(page, 'Dr. Caio').getByRole('button', { name: 'Excluir: Dr. Caio' }).click();
  await row(page, 'Dr. Caio').getByRole('button', { name: 'Excluir mesmo?: Dr. Caio' }).click();
  await gone(page, 'Dr. Caio', '#doctors');
  await database.query('update doctors set "deletedAt" = now() where id = 123');
  await gone(page, 'Dra. Beatriz', '#doctors');
  await page
    .locator('.entry', { hasText: 'Gravado fora desta página' })
    .getByText('doctors.deleted')
    .waitFor();
  await page.getByRole('button', { name: 'Novo médico' }).click();
  await page
    .locator('.entry', { hasText: 'Novo médico' })
    .getByText(/^\d+ ms$/)
    .waitFor();
});

test('a message is received and counted; Sincronizar Chats finds the others once', async () => {
  const page = await openConsole();
  const chat = row(page, 'Maria Souza', '#chats');
  await chat.getByText('2 não lidas').waitFor();
  await chat.getByRole('button', { name: 'Nova mensagem: Maria Souza' }).click();
  await chat.getByText('3 não lidas').waitFor();
  await chat.getByRole('button', { name: 'Lida: Maria Souza' }).click();
  await chat.locator('.tag').waitFor({ state: 'hidden' });
  await database.query(`insert into evolution.messages ("chatId", "tenantId", content, direction)
    select id, "tenantId", '<img src=x onerror=alert(1)>', 'INCOMING' from evolution.chats where "contactName" = 'Maria Souza'`);
  await chat.getByText('<img src=x onerror=alert(1)>').waitFor();
  await page.getByRole('button', { name: 'Sincronizar Chats' }).click();
  await row(page, 'Grupo de Vendas', '#chats').waitFor();
  await page.getByRole('button', { name: 'Sincronizar Chats' }).click();
  await page.locator('.entry').first().getByText('Nada mudou').waitFor();
  expect(await page.locator('#chats .row', { hasText: 'Grupo de Vendas' }).count()).toBe(1);
});

test('a chat of WhatsApp is answered, and what became of the answer stands in its row', async () => {
  const whatsapp = await startWhatsAppDemo(database.url, '1', 3_600_000);
  try {
    const page = await openConsole();
    const chat = row(page, 'Ana Paula', '#chats');
    await chat.waitFor();
    // The samples belong to no number.
    expect(await row(page, 'Maria Souza', '#chats').getByRole('button', { name: 'Responder' }).count()).toBe(
      0,
    );
    await database.query(`update evolution.instances set "maySend" = false`);
    await chat.getByRole('button', { name: 'Responder: Ana Paula' }).click();
    await chat.getByText(/não enviada: o envio está desligado/).waitFor();
    await database.query(`update evolution.instances set "maySend" = true`);
    await chat.getByRole('button', { name: 'Responder: Ana Paula' }).click();
    await chat.getByText(/Bom dia! Como podemos|Temos horário|Combinado/).waitFor();
    await database.query(
      `update evolution.messages set status = 'FAILED' where direction = 'OUTGOING' and "instanceName" is not null`,
    );
    await chat.getByText('não entregue').waitFor();
    await whatsapp.close();
    await chat.getByRole('button', { name: 'Responder: Ana Paula' }).click();
    await chat.getByText('na fila: o servidor do WhatsApp não responde').waitFor();
  } finally {
    await whatsapp.close();
    await database.query('delete from evolution.instances');
  }
});

test('what is missed while the connection is cut comes once when it is back, and says so', async () => {
  const page = await openConsole();
  const line = page.getByRole('switch', { name: 'Conexão' });
  await line.click();
  await page.getByText('Conexão cortada', { exact: true }).waitFor();
  const chat = row(page, 'Pedro Alves', '#chats');
  await chat.getByRole('button', { name: 'Nova mensagem: Pedro Alves' }).click();
  await chat.getByText('Gravado; esperando o evento').waitFor();
  await page.locator('#cut-banner', { hasText: '1 gravação' }).waitFor();
  await database.query(`insert into doctors ("accountId", name) values (1, 'Dra. Ausente')`);
  expect(await chat.getByText('1 não lida').count()).toBe(0);
  await screenshot(page, 'cut');

  await line.click();
  await page.getByText('Ao vivo', { exact: true }).waitFor();
  await chat.getByText('1 não lida').waitFor();
  await row(page, 'Dra. Ausente', '#doctors').waitFor();
  await page
    .locator('.chips li', { hasText: 'chat:message' })
    .first()
    .getByText(/^recuperado, esperou/)
    .waitFor();
  await database.query(`update doctors set name = 'Dra. Presente' where name = 'Dra. Ausente'`);
  await row(page, 'Dra. Presente', '#doctors').waitFor();
  await screenshot(page, 'restored');

  await page.getByRole('tab', { name: 'Eventos' }).click();
  expect(await heard(page)).toEqual([
    'doctors.updated ao vivo',
    'doctors.created recuperado',
    'chat:message recuperado',
    'chat:update recuperado',
  ]);
  await page.getByLabel('Mostrar').selectOption('doctors.created');
  expect(await heard(page)).toEqual(['doctors.created recuperado']);
  await page.locator('.event', { hasText: 'recuperado' }).filter({ visible: true }).click();
  await page.locator('#event-detail pre', { hasText: '"Dra. Ausente"' }).waitFor();
  await page.locator('.way li', { hasText: 'Lido e enviado' }).waitFor();
  await screenshot(page, 'events');
});

test('two accounts side by side: nothing leaks', async () => {
  const first = await openConsole();
  const second = await openConsole('?conta=2');
  await second.getByText('Carlos Nunes').first().waitFor();
  await row(second, 'Rita Campos').getByRole('button', { name: 'Check-in: Rita Campos' }).click();
  await second.locator('#arrived .row', { hasText: 'Rita Campos' }).waitFor();
  // Events are told in the order of their commits: what comes after shows that nothing came before.
  await first.getByRole('button', { name: 'Novo médico' }).click();
  await first
    .locator('.chips li', { hasText: 'doctors.created' })
    .getByText(/^\d+ ms$/)
    .waitFor();
  await row(second, 'Carlos Nunes').getByRole('button', { name: 'Finalizar: Carlos Nunes' }).click();
  await gone(second, 'Carlos Nunes', '#serving');
  for (const page of [first, second]) await page.getByRole('tab', { name: 'Eventos' }).click();
  expect(await heard(first)).toEqual(['doctors.created ao vivo']);
  expect(await heard(second)).toEqual([
    'appointmnents.finished ao vivo',
    'doctors.busy ao vivo',
    'appointments.checkin ao vivo',
  ]);
  expect(await first.content()).not.toContain('Rita Campos');
  await screenshot(second, 'other-account');

  // The switcher in the page does the same, and forgets what the other account's tail held.
  await first.getByText('Clínica Aurora', { exact: true }).click();
  await first.getByText('Ao vivo', { exact: true }).waitFor();
  expect(await heard(first)).toEqual([]);
  await first.getByRole('tab', { name: 'Clínica' }).click();
  await row(first, 'Rita Campos').waitFor();
  expect(await first.locator('#doctors').textContent()).not.toContain('Dr. Victor');
});

test('of another database than before, the page loads the list again', async () => {
  const page = await openConsole();
  await database.query('select relay.new_epoch()');
  // Relays look at the epoch when they connect.
  await database.query(
    "select pg_terminate_backend(pid) from pg_stat_activity where application_name = 'recado feed'",
  );
  await page.getByRole('tab', { name: 'Eventos' }).click();
  await page.locator('.events .event-name', { hasText: 'relay:resync' }).first().waitFor();
  await page.getByText('Ao vivo', { exact: true }).waitFor();
  await page.getByRole('tab', { name: 'Clínica' }).click();
  await page.getByRole('button', { name: 'Novo médico' }).click();
  await page
    .locator('.chips li', { hasText: 'doctors.created' })
    .getByText(/^\d+ ms$/)
    .waitFor();
});

test('the contract is shown, and downloaded in both forms', async () => {
  const page = await openConsole('#contrato');
  const card = page.locator('.contract article', { hasText: 'appointmnents.finished' });
  await card.getByText('ativo').waitFor();
  expect(await card.textContent()).toContain('new."statusId" is distinct from old."statusId"');
  expect(await card.locator('pre', { hasText: 'relay.publish(' }).count()).toBe(1);
  for (const [button, name] of [
    ['AsyncAPI', 'recado.asyncapi.json'],
    ['TypeScript', 'recado.d.ts'],
  ] as const) {
    const [download] = await Promise.all([
      page.waitForEvent('download'),
      page.getByRole('button', { name: button }).click(),
    ]);
    expect(download.suggestedFilename()).toBe(name);
    expect(await readFile(await download.path(), 'utf8')).toContain('appointmnents.finished');
  }
});

test('an event of the contract is tried with a row: what would be sent, to whom, and nothing is written', async () => {
  const page = await openConsole('#contrato');
  const card = page.locator('.contract article', { has: page.locator('#contract-doctors\\.created') });
  const before = await database.query('select count(*)::int as n from relay.events');
  await card.getByText('Experimentar com uma linha').click();
  const rows = card.getByLabel('Linha');
  const marina = rows.locator('option', { hasText: 'Dra. Marina' });
  await marina.waitFor({ state: 'attached' });
  await rows.selectOption((await marina.getAttribute('value'))!);
  await card.getByText('INSERT: seria enviado').waitFor();
  await card.locator('.outcome pre', { hasText: 'Dra. Marina' }).first().waitFor();
  // Of the other clinic, which no page shows.
  await card.getByText('orders.account.2, para toda a conta; agora 0 telas').first().waitFor();
  expect(await database.query('select count(*)::int as n from relay.events')).toEqual(before);
  expect(await violations(page)).toEqual([]);
  // A long row does not push the list out of its card.
  const [outer, inner] = [await card.boundingBox(), await rows.boundingBox()];
  expect(inner!.x + inner!.width).toBeLessThan(outer!.x + outer!.width);
  await screenshot(page, 'trial');
});

test('an operator sees that all is well, and what is not', async () => {
  const page = await openConsole('#operacao');
  await page.getByText('Tudo em ordem').waitFor();
  await page.locator('#nodes td', { hasText: 'backend' }).waitFor();
  await page.getByRole('img', { name: /^Telas conectadas: \d/ }).waitFor();
  await database.query('alter table doctors disable trigger user');
  try {
    await page.locator('#warnings li', { hasText: 'doctors' }).first().waitFor({ timeout: 20_000 });
    await page.getByText('Atende, com avisos').waitFor();
    await screenshot(page, 'warnings');
  } finally {
    await database.query('alter table doctors enable trigger user');
  }
});

test('an instance with a long name, and its trouble, fit a narrow phone', async () => {
  const name = 'recepcao-da-clinica-boa-vista-principal';
  await database.query(
    `insert into evolution.instances (name, "tenantId", host, "apiKey") values ($1, '1', 'http://127.0.0.1:9', 'key of a test')`,
    [name],
  );
  try {
    const page = await openConsole('#operacao', { viewport: { width: 320, height: 780 } });
    await page.locator('#instances td', { hasText: name }).waitFor();
    const trouble = page.locator('#warnings li', { hasText: `${name}: servidor fora de alcance` });
    await trouble.locator('[lang=en]', { hasText: 'no answer from' }).waitFor();
    expect(await page.evaluate('document.documentElement.scrollWidth <= innerWidth')).toBe(true);
    expect(await violations(page)).toEqual([]);
    await screenshot(page, 'narrow');
  } finally {
    await database.query('delete from evolution.instances');
  }
});

test('tabs are reached with the arrows, and the address keeps them', async () => {
  const page = await openConsole();
  await page.getByRole('tab', { name: 'Clínica' }).focus();
  await page.keyboard.press('ArrowRight');
  await page.locator('#eventos').waitFor();
  await page.keyboard.press('End');
  await page.locator('#operacao').waitFor();
  expect(new URL(page.url()).hash).toBe('#operacao');
  await page.keyboard.press('ArrowRight');
  await page.locator('#clinica').waitFor();
  await page.reload();
  await page.locator('#clinica').waitFor();
});

describe.each([
  ['light', { colorScheme: 'light', viewport: { width: 1360, height: 900 } }],
  ['dark', { colorScheme: 'dark', viewport: { width: 1360, height: 900 } }],
  ['phone', { colorScheme: 'light', viewport: { width: 390, height: 844 }, isMobile: true, hasTouch: true }],
  [
    'phone-dark',
    { colorScheme: 'dark', viewport: { width: 390, height: 844 }, isMobile: true, hasTouch: true },
  ],
] satisfies [string, BrowserContextOptions][])('%s', (look, options) => {
  test.each(['clinica', 'eventos', 'contrato', 'operacao'])('axe finds nothing on %s', async (tab) => {
    const page = await openConsole('', options);
    await page.getByRole('button', { name: 'Chegou um paciente' }).click();
    await page
      .locator('.chips li', { hasText: 'appointments.checkin' })
      .getByText(/^\d+ ms$/)
      .waitFor();
    await page.locator(`#tab-${tab}`).click();
    if (tab === 'eventos') await page.locator('.event').first().click();
    if (tab === 'contrato') await page.locator('.contract article').first().waitFor();
    if (tab === 'operacao') await page.locator('#nodes td').first().waitFor();
    expect(await violations(page)).toEqual([]);
    expect(await page.evaluate('document.documentElement.scrollWidth <= innerWidth')).toBe(true);
    await screenshot(page, `${tab}-${look}`);
  });
});

describe('outside the demonstration', () => {
  let recado: Recado;
  let secret: string;

  beforeAll(async () => {
    secret = await readFile(join(dataDir, 'jwt-secret'), 'utf8');
    recado = await startRecado({ DATABASE_URL: database.url, JWT_SECRET: secret, OPERATOR_TOKEN });
  }, 60_000);
  afterAll(() => stop(recado));

  test('the page needs a token, writes nothing, and the demo endpoints do not exist', async () => {
    for (const [method, path] of [
      ['POST', '/demo/tokens'],
      ['GET', '/demo/clinic'],
      ['POST', '/demo/act'],
    ] as const) {
      expect(await ask(recado, method, path)).toMatchObject({ status: 404 });
    }
    expect(await ask(recado, 'GET', '/console/contract')).toMatchObject({ status: 401 });
    const token = await signToken({ secret, accountId: '1', expiresIn: 600, claim: 'accountId' });

    const page = await stage.openPage(recado, '/');
    await page.getByRole('heading', { name: 'Entrar' }).waitFor();
    expect(await page.getByRole('tab', { name: 'Clínica' }).count()).toBe(0);
    expect(await violations(page)).toEqual([]);
    await screenshot(page, 'sign-in');
    await page.getByLabel('Token de acesso').fill('not a token');
    await page.getByRole('button', { name: 'Entrar' }).click();
    await page.getByText('Isto não é um token.').waitFor();
    const nobodys = await signToken({ secret, accountId: '1', expiresIn: 600, claim: 'another' });
    await page.getByLabel('Token de acesso').fill(nobodys);
    await page.getByRole('button', { name: 'Entrar' }).click();
    await page.getByText('O token não diz de que conta é.').waitFor();
    // The browser writes down the refused request.
    stage.complaints.splice(0);
    await page.getByLabel('Token de acesso').fill(token);
    await page.getByRole('button', { name: 'Entrar' }).click();
    await page.getByText('Ao vivo, conta 1').waitFor();
    await page.getByRole('tab', { name: 'Eventos' }).click();
    await database.query(`insert into doctors ("accountId", name) values (1, 'Dr. Novo')`);
    await page.locator('.events .event', { hasText: 'Dr. Novo' }).waitFor();
    await page.getByRole('tab', { name: 'Contrato' }).click();
    const card = page.locator('.contract article', { hasText: 'doctors.deleted' });
    await card.waitFor();
    // The contract's SQL is not for clients.
    expect(await card.textContent()).not.toContain('accountId');
    expect(await card.textContent()).not.toContain('relay.publish(');
    await screenshot(page, 'signed-in');
  });

  test('operations are for operators, not for a clinic user', async () => {
    const token = await signToken({ secret, accountId: '1', expiresIn: 600, claim: 'accountId' });
    for (const path of ['/console/operations', '/metrics']) {
      expect(await ask(recado, 'GET', path)).toMatchObject({ status: 403 });
      expect(await ask(recado, 'GET', path, { authorization: `Bearer ${token}` })).toMatchObject({
        status: 403,
      });
      const answered = await ask(recado, 'GET', path, { authorization: `Bearer ${OPERATOR_TOKEN}` });
      expect(answered.status).toBe(200);
      const { password } = new URL(database.url);
      for (const hidden of [password, secret, OPERATOR_TOKEN]) expect(answered.body).not.toContain(hidden);
    }
    const page = await stage.openPage(recado, '/#operacao');
    await page.getByLabel('Token de operador').fill('something else');
    await page.getByRole('button', { name: 'Ver' }).click();
    await page.getByText('Este token de operador não foi aceito.').waitFor();
    await page.getByLabel('Token de operador').fill(OPERATOR_TOKEN);
    await page.getByRole('button', { name: 'Ver' }).click();
    await page.locator('#nodes td', { hasText: 'backend' }).first().waitFor();
    // The browser writes down each refused request.
    stage.complaints.splice(0);
  });
});

test('the demonstration answers no foreign page, by whatever name it came here', async () => {
  const { host } = new URL(demo.url);
  const json = { 'content-type': 'application/json' };
  const refused = { status: 403 };
  expect(await ask(demo, 'POST', '/demo/tokens', { ...json, origin: 'http://evil.example' })).toMatchObject(
    refused,
  );
  expect(await ask(demo, 'POST', '/demo/tokens', { ...json, host: 'evil.example' })).toMatchObject(refused);
  expect(await ask(demo, 'POST', '/demo/tokens', { ...json, 'sec-fetch-site': 'cross-site' })).toMatchObject(
    refused,
  );
  expect(await ask(demo, 'POST', '/demo/tokens', { ...json, 'x-forwarded-for': '10.0.0.1' })).toMatchObject(
    refused,
  );
  expect(await ask(demo, 'GET', '/console/operations', { host: 'evil.example' })).toMatchObject(refused);
  expect(await ask(demo, 'POST', '/demo/tokens', { 'content-type': 'text/plain' })).toMatchObject({
    status: 415,
  });
  expect(await ask(demo, 'PUT', '/demo/tokens', json)).toMatchObject({ status: 405 });
  expect(await ask(demo, 'POST', '/demo/act', json)).toMatchObject({ status: 401 });
  expect(await ask(demo, 'GET', '/console/..%2fclinic.ts')).toMatchObject({ status: 404 });

  const tokens = await ask(demo, 'POST', '/demo/tokens', { ...json, origin: `http://${host}` });
  const { token } = (JSON.parse(tokens.body) as { accounts: { people: { token: string }[] }[] }).accounts[0]!
    .people[0]!;
  const act = (body: string) =>
    ask(demo, 'POST', '/demo/act', { ...json, authorization: `Bearer ${token}` }, body);
  expect(await act('{"action": "drop"}')).toMatchObject({ status: 400 });
  expect(await act('{"action": "__proto__"}')).toMatchObject({ status: 400 });
  expect(await act('{"action": "finish", "id": "1; drop table doctors"}')).toMatchObject({ status: 400 });
  expect(await act(`{"action": "finish", "pad": "${'x'.repeat(2_000)}"}`)).toMatchObject({ status: 413 });
  // Another account's row is not there for this one.
  expect(JSON.parse((await act('{"action": "finish", "id": 224}')).body)).toMatchObject({
    rows: 0,
    events: [],
  });
});

// ---------------------------------------------------------------------------------------------------------

/** The demonstration, live. */
async function openConsole(path = '', options: BrowserContextOptions = {}): Promise<Page> {
  const page = await stage.openPage(demo, `/${path}`, options);
  await page.getByText('Ao vivo', { exact: true }).waitFor();
  return page;
}

function row(page: Page, name: string, within = '#clinica') {
  const waiting = within === '#clinica' ? '.appointment, .doctor' : '.row';
  return page
    .locator(within)
    .locator(waiting)
    .filter({ has: page.getByText(name, { exact: true }) });
}

async function gone(page: Page, name: string, within: string): Promise<void> {
  await page.locator(`${within} .row`, { hasText: name }).waitFor({ state: 'detached' });
}

/** What stands in the live tail, the newest first, without what was stored before. */
async function heard(page: Page): Promise<string[]> {
  const entries = await page.locator('.events li').filter({ visible: true }).all();
  const rows = await Promise.all(
    entries.map(async (entry) => {
      const { y } = (await entry.boundingBox())!;
      const parts = [entry.locator('.event-name'), entry.locator('.time')];
      return { y, text: (await Promise.all(parts.map((part) => part.textContent()))).join(' ') };
    }),
  );
  return rows
    .sort((a, b) => a.y - b.y)
    .map(({ text }) => text)
    .filter((text) => !text.endsWith('guardado'));
}
