// The page outside of the demonstration, and what the demonstration refuses.
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { signToken } from '../../auth/sign.ts';
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
