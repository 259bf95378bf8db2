// Contract and operations in a real browser, and what holds for every view: keyboard, axe, narrow screens.
import { readFile } from 'node:fs/promises';
import type { BrowserContextOptions } from 'playwright-core';
import type { Database } from '../world.ts';
import { openStage, type Stage, screenshot, violations } from './chromium.ts';

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

test('the contract is shown, and downloaded in both forms', async () => {
  const page = await stage.openDemo('/#contrato');
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
  const page = await stage.openDemo('/#contrato');
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
  const page = await stage.openDemo('/#operacao');
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
    const page = await stage.openDemo('/#operacao', { viewport: { width: 320, height: 780 } });
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
  const page = await stage.openDemo();
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
    const page = await stage.openDemo('/', options);
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
