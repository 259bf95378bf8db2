// An attendant's page of the demonstration: the conversations that are theirs, and nothing of the others'. Whatever the
// browser receives is looked through, not only what the page shows of it.
import type { Page } from 'playwright-core';
import { until } from '../world.ts';
import { ask, openStage, type Stage, screenshot, violations } from './chromium.ts';

let stage: Stage;

beforeAll(async () => {
  stage = await openStage();
  await assign('Maria Souza', 'ana');
  await assign('Pedro Alves', 'bruno');
}, 120_000);
afterEach(async () => {
  await stage.closePages();
  expect(stage.complaints.splice(0)).toEqual([]);
});
afterAll(() => stage?.close(), 30_000);

test("another attendant's messages never arrive: live, after a cut connection, and after a reload", async () => {
  const { page, received } = await openAs('ana');
  expect(await chatsOnceShown(page)).toEqual(['Maria Souza']);

  await say('Pedro Alves', 'segredo ao vivo');
  await say('Maria Souza', 'recado ao vivo');
  await chat(page, 'Maria Souza').getByText('recado ao vivo').waitFor();

  const line = page.getByRole('switch', { name: 'Conexão' });
  await line.click();
  await page.getByText('Conexão cortada', { exact: true }).waitFor();
  await say('Pedro Alves', 'segredo na ausência');
  await say('Maria Souza', 'recado na ausência');
  await line.click();
  await chat(page, 'Maria Souza').getByText('recado na ausência').waitFor();

  await say('Pedro Alves', 'segredo antes da volta');
  await page.reload();
  await page.getByText('Ao vivo', { exact: true }).waitFor();
  expect(await chatsOnceShown(page)).toEqual(['Maria Souza']);
  await page.getByRole('tab', { name: 'Eventos' }).click();
  await page.locator('.glance', { hasText: 'recado ao vivo' }).waitFor();
  const all = received();
  expect(all).toContain('recado ao vivo');
  expect(all).toContain('recado na ausência');
  expect(all).not.toContain('segredo');
  // Pedro's number; his name is a patient's, too.
  expect(all).not.toContain('5581977772222');
});

test('a conversation that is handed over leaves one page and comes to the other, with what is said in it', async () => {
  const ana = await openAs('ana');
  const bruno = await openAs('bruno');
  const reception = await openAs('recepcao');
  expect(await chatsOnceShown(reception.page)).toEqual(['Maria Souza', 'Pedro Alves']);
  await screenshot(bruno.page, 'attendant');
  expect(await violations(bruno.page)).toEqual([]);

  const handOver = { name: 'Passar a Bruno: Maria Souza' };
  await chat(reception.page, 'Maria Souza').getByRole('button', handOver).click();
  await chat(bruno.page, 'Maria Souza').waitFor();
  await chat(ana.page, 'Maria Souza').waitFor({ state: 'detached' });
  await chat(reception.page, 'Maria Souza').getByText('Bruno ·').waitFor();

  await say('Maria Souza', 'só para o Bruno');
  await chat(bruno.page, 'Maria Souza').getByText('só para o Bruno').waitFor();
  await stage.database.query(`insert into doctors ("accountId", name) values (1, 'Dra. Depois')`);
  await ana.page.locator('.doctor', { hasText: 'Dra. Depois' }).waitFor();
  await ana.page.reload();
  await ana.page.locator('.doctor', { hasText: 'Dra. Depois' }).waitFor();
  expect(await chatsOf(ana.page)).toEqual([]);
  expect(ana.received()).not.toContain('só para o Bruno');

  // Whoever had it changes nothing in it.
  const rows = await stage.database.query<{ id: number }>(
    `select id::int from evolution.chats where "contactName" = 'Maria Souza'`,
  );
  expect(await actAs('ana', { action: 'message', id: rows[0]!.id })).toMatchObject({ rows: 0, events: [] });
  expect(await actAs('bruno', { action: 'message', id: rows[0]!.id })).toMatchObject({ rows: 1 });
});

test('two conversations that turn out to be one keep the attendant', async () => {
  const { page } = await openAs('ana');
  // The one with the number is the older one, and stays.
  await stage.database.query(`
    with source as (
      insert into evolution.sources ("tenantId", name) values ('1', 'merging') returning id
    ), chat as (
      insert into evolution.chats ("tenantId", "whatsappChatId", "contactName", "contactNumber") values
        ('1', '5581900000000@s.whatsapp.net', 'Com Número', ''), ('1', '900@lid', 'Sem Número', '')
      returning id, "whatsappChatId" as jid
    )
    insert into evolution.aliases (source_id, alias, jid, chat_id)
    select source.id, chat.jid, chat.jid, chat.id from source, chat`);
  await assign('Sem Número', 'ana');
  await chat(page, 'Sem Número').waitFor();
  await stage.database.query(`
    select evolution.take_addresses(id, '{"addresses": [], "pairs": [{"lid": "900@lid", "phone": "5581900000000@s.whatsapp.net"}]}')
      from evolution.sources where name = 'merging'`);
  await chat(page, 'Sem Número').waitFor({ state: 'detached' });
  await chat(page, 'Com Número').waitFor();
  await say('Com Número', 'ainda é da Ana');
  await chat(page, 'Com Número').getByText('ainda é da Ana').waitFor();
});

test('the events of one topic are shown, those that come later too, and for whom each is', async () => {
  const { page } = await openAs('recepcao');
  await stage.database.query(`insert into doctors ("accountId", name) values (1, 'Dr. De Todos')`);
  await say('Pedro Alves', 'para um tópico');
  await page.getByRole('tab', { name: 'Eventos' }).click();
  await page.locator('.glance', { hasText: 'Dr. De Todos' }).first().waitFor();
  await page.getByLabel('Tópico').selectOption('reception');
  await page.locator('.glance', { hasText: 'Dr. De Todos' }).first().waitFor({ state: 'hidden' });
  await page.locator('.glance', { hasText: 'para um tópico' }).waitFor();
  await say('Pedro Alves', 'depois da escolha');
  const later = page.locator('.event', { hasText: 'depois da escolha' }).first();
  await later.click();
  await page.locator('.way li', { hasText: 'aqui, reception' }).waitFor();
  expect(await violations(page)).toEqual([]);
  await screenshot(page, 'topic');

  // A topic of somebody else is not for this token, whoever asks.
  const token = await tokenOf('ana');
  const topicIs = async (topic: string) => {
    const headers = { authorization: `Bearer ${token}` };
    const { status, body } = await ask(stage.demo, 'GET', `/console/events?topic=${topic}`, headers);
    return { status, body };
  };
  expect(await topicIs('user:ana')).toMatchObject({ status: 200 });
  expect(await topicIs('reception')).toMatchObject({
    status: 400,
    body: expect.stringContaining('topic_unknown'),
  });
});

test('the switch shows another person, and forgets what the first one heard', async () => {
  const { page } = await openAs('recepcao');
  await say('Pedro Alves', 'para a recepção');
  await chat(page, 'Pedro Alves').getByText('para a recepção').waitFor();
  await page.getByLabel('Quem olha').selectOption('Ana');
  await until(
    'only Ana’s conversations are shown',
    async () => !(await chatsOf(page)).includes('Pedro Alves'),
  );
  await page.getByText('Ao vivo', { exact: true }).waitFor();
  expect(new URL(page.url()).searchParams.get('quem')).toBe('ana');
  await page.getByRole('tab', { name: 'Eventos' }).click();
  await page.locator('.event').first().waitFor();
  expect(await page.content()).not.toContain('para a recepção');
});

// ---------------------------------------------------------------------------------------------------------

/** A page, and all that the browser received for it from its first request on. */
async function openAs(person: string): Promise<{ page: Page; received: () => string }> {
  const page = await stage.openPage({ url: 'about:blank' }, '');
  const bodies: string[] = [];
  page.on('websocket', (socket) => {
    socket.on('framereceived', ({ payload }) => bodies.push(String(payload)));
  });
  await page.route(/\/(demo\/clinic|demo\/act|console\/events?)(\?|$)/, async (route) => {
    const answer = await route.fetch();
    bodies.push(await answer.text());
    await route.fulfill({ response: answer });
  });
  await page.goto(`${stage.demo.url}/?conta=1&quem=${person}`);
  await page.getByText('Ao vivo', { exact: true }).waitFor();
  return { page, received: () => bodies.join('\n') };
}

const json = { 'content-type': 'application/json' };

async function tokenOf(person: string): Promise<string> {
  const { body } = await ask(stage.demo, 'POST', '/demo/tokens', json);
  const { accounts } = JSON.parse(body) as { accounts: { people: { id: string; token: string }[] }[] };
  return accounts[0]!.people.find(({ id }) => id === person)!.token;
}

async function actAs(person: string, wish: object): Promise<unknown> {
  const headers = { ...json, authorization: `Bearer ${await tokenOf(person)}` };
  return JSON.parse((await ask(stage.demo, 'POST', '/demo/act', headers, JSON.stringify(wish))).body);
}

function chat(page: Page, name: string) {
  return page.locator('#chats .row').filter({ has: page.getByText(name, { exact: true }) });
}

async function chatsOf(page: Page): Promise<string[]> {
  return (await page.locator('#chats .who').allTextContents()).sort();
}

/** A page is live a frame before its list is drawn, all of it at once. */
async function chatsOnceShown(page: Page): Promise<string[]> {
  await page.locator('#chats .who').first().waitFor();
  return chatsOf(page);
}

async function say(to: string, content: string): Promise<void> {
  await stage.database.query(
    `insert into evolution.messages ("chatId", "tenantId", content, direction)
     select id, "tenantId", $2, 'INCOMING' from evolution.chats where "contactName" = $1`,
    [to, content],
  );
}

async function assign(to: string, attendant: string): Promise<void> {
  await stage.database.query(
    `insert into "chatAttendants" ("chatId", "tenantId", attendant)
     select id, "tenantId", $2 from evolution.chats where "contactName" = $1`,
    [to, attendant],
  );
}
