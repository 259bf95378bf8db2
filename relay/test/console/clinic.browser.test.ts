// The clinic's page in a real browser, on a real `recado start`: what a person does, and what then stands on the screen.
// Every wait is for something that must appear.
import type { Page } from 'playwright-core';
import { startWhatsAppDemo } from '../../evolution/demo/whatsapp.ts';
import type { Database } from '../world.ts';
import { openStage, type Stage, screenshot } from './chromium.ts';

let stage: Stage;
let database: Database;

beforeAll(async () => {
  stage = await openStage();
  ({ database } = stage);
}, 120_000);

afterEach(async () => {
  await stage.closePages();
  expect(stage.complaints.splice(0)).toEqual([]);
});

afterAll(() => stage?.close(), 30_000);

test('finishing an appointment writes one statement; the list changes when its event is back', async () => {
  const page = await stage.openDemo();
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
  const page = await stage.openDemo();
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
  const page = await stage.openDemo();
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
  const page = await stage.openDemo();
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
    const page = await stage.openDemo();
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
  const page = await stage.openDemo();
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
  const first = await stage.openDemo();
  const second = await stage.openDemo('/?conta=2');
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

test('after a new epoch the page is told to refetch, and hears events again', async () => {
  const page = await stage.openDemo();
  await database.query('select relay.new_epoch()');
  // Relays look at the epoch when they connect.
  await database.endSessions('recado feed');
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
