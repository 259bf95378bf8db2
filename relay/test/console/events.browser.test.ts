// Eventos: its filters together, and what it says when its events cannot be read.
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { Page } from 'playwright-core';
import { signToken } from '../../auth/sign.ts';
import { until } from '../world.ts';
import { openStage, type Recado, type Stage, screenshot, startRecado, stop, violations } from './chromium.ts';

let stage: Stage;

beforeAll(async () => {
  stage = await openStage();
}, 120_000);
afterEach(() => stage.closePages());
afterAll(() => stage?.close(), 30_000);

test('event, topic, account and words choose together, and a chosen event tells its way', async () => {
  const page = await openEvents();
  await say('Pedro Alves', 'a procurada');
  await say('Pedro Alves', 'a outra');
  await stage.database.query(`insert into doctors ("accountId", name) values (1, 'Dra. Procurada')`);
  await glance(page, 'Dra. Procurada').waitFor();
  await page.getByLabel('Tópico').selectOption('reception');
  await glance(page, 'Dra. Procurada').waitFor({ state: 'detached' });
  await page.getByLabel('Mostrar').selectOption('chat:message');
  await page.getByLabel('Procurar').filter({ visible: true }).fill('PROCURADA');
  await until('one event is left', async () => (await shown(page)).length === 1);
  expect(await shown(page)).toEqual(['chat:message']);
  await page.locator('.event').filter({ visible: true }).click();
  const way = page.locator('.way');
  for (const step of ['Capturado', 'Gravado (commit)', 'aqui, reception', 'Lido e enviado']) {
    await way.locator('li', { hasText: step }).waitFor();
  }

  await page.getByText('Clínica Aurora', { exact: true }).click();
  await page.getByText('Ao vivo', { exact: true }).waitFor();
  await page.getByText('Nenhum evento').waitFor();
  expect(await page.locator('#event-detail').isVisible()).toBe(false);
  expect(await page.getByLabel('Tópico').inputValue()).toBe('');
  await stage.database.query(
    `insert into doctors ("accountId", name) values (1, 'Dra. Procurada'), (2, 'Dra. Procurada da Aurora')`,
  );
  await page.getByLabel('Mostrar').selectOption('doctors.created');
  await glance(page, 'Dra. Procurada da Aurora').waitFor();
  expect(await shown(page)).toEqual(['doctors.created']);
});

test('events of a topic that cannot be read again stay, dimmed, with their time, until they can', async () => {
  const page = await openEvents();
  await say('Pedro Alves', 'lida antes');
  await page.getByLabel('Tópico').selectOption('reception');
  await glance(page, 'lida antes').waitFor();
  await page.route('**/console/events?*', (route) => route.abort());
  await say('Pedro Alves', 'ainda não lida');
  const list = page.locator('#events-view');
  await until('the list is of before', async () => (await list.getAttribute('data-stale')) !== null);
  expect(await list.getAttribute('data-stale')).toMatch(
    /^Eventos até \d\d:\d\d:\d\d\. Os eventos deste tópico não puderam ser lidos \(o Recado não responde\)\.$/,
  );
  expect(await page.locator('#announcer').textContent()).toContain('não puderam ser lidos');
  expect(await glance(page, 'lida antes').isVisible()).toBe(true);
  expect(await violations(page)).toEqual([]);
  await screenshot(page, 'topic-stopped');
  await page.unroute('**/console/events?*');
  await glance(page, 'ainda não lida').waitFor();
  expect(await list.getAttribute('data-stale')).toBe(null);
});

describe('outside the demonstration', () => {
  let recado: Recado;
  let secret: string;
  const tokenWith = (more: { topics?: string[]; subject?: string }) =>
    signToken({ secret, accountId: '1', expiresIn: 600, claim: 'accountId', ...more });
  const signIn = async (page: Page, token: string) => {
    await page.getByLabel('Token de acesso').fill(token);
    await page.getByRole('button', { name: 'Entrar' }).click();
    await page.getByText('Ao vivo, conta 1').waitFor();
  };
  beforeAll(async () => {
    secret = await readFile(join(stage.dataDir, 'jwt-secret'), 'utf8');
    recado = await startRecado({ DATABASE_URL: stage.database.url, JWT_SECRET: secret });
  }, 60_000);
  afterAll(() => stop(recado));

  test('who signs in next sees the own topics, and nothing that the one before heard', async () => {
    const page = await stage.openPage(recado, '/#eventos');
    await signIn(page, await tokenWith({ topics: ['reception'] }));
    await say('Pedro Alves', 'para a recepção');
    await glance(page, 'para a recepção').waitFor();
    await page.getByLabel('Tópico').selectOption('reception');
    await page.getByRole('button', { name: 'Sair' }).click();
    await signIn(page, await tokenWith({ subject: 'ana' }));
    await page.getByLabel('Tópico').selectOption('user:ana');
    expect(await page.locator('#event-topic option').allTextContents()).toEqual(['todos', 'user:ana']);
    expect(await page.content()).not.toContain('para a recepção');
  });

  test('if stored events cannot be read at the start, the page says so until they are read', async () => {
    await say('Pedro Alves', 'guardada');
    const page = await stage.openPage(recado, '/#eventos');
    await page.route('**/console/events', (route) => route.abort());
    await signIn(page, await tokenWith({ topics: ['reception'] }));
    const missing = page.getByText('Os eventos guardados não puderam ser lidos (o Recado não responde).');
    await missing.waitFor();
    expect(await page.getByText('Nenhum evento ainda').isVisible()).toBe(false);
    await say('Pedro Alves', 'nova');
    await glance(page, 'nova').waitFor();
    expect(await violations(page)).toEqual([]);
    await screenshot(page, 'stored-missing');
    await page.unroute('**/console/events');
    await page.getByRole('button', { name: 'Ler de novo' }).click();
    await glance(page, 'guardada').waitFor();
    expect(await missing.isVisible()).toBe(false);
    await glance(page, 'nova').waitFor();
  });
});

const openEvents = () => stage.openDemo('/?conta=1&quem=recepcao#eventos');

function glance(page: Page, text: string) {
  return page.locator('.glance', { hasText: text }).filter({ visible: true }).first();
}

/** Names of the events in sight. */
function shown(page: Page): Promise<string[]> {
  return page.locator('.event-name').filter({ visible: true }).allTextContents();
}

async function say(to: string, content: string): Promise<void> {
  await stage.database.query(
    `insert into evolution.messages ("chatId", "tenantId", content, direction)
     select id, "tenantId", $2, 'INCOMING' from evolution.chats where "contactName" = $1`,
    [to, content],
  );
}
