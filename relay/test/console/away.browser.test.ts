// What the page says while the relay or the database is away. A link between browser and relay is cut and mended.
import { once } from 'node:events';
import { connect, createServer, type Server, type Socket } from 'node:net';
import { portOf } from '../../port.ts';
import { openStage, type Stage, screenshot, violations } from './chromium.ts';

let stage: Stage;

beforeAll(async () => {
  stage = await openStage();
}, 120_000);
afterEach(() => stage.closePages());
afterAll(() => stage?.close(), 30_000);

test('with the relay stopped, the page promises nothing that a click cannot keep', async () => {
  const link = await openLink(stage.demo.url);
  const page = await stage.openPage(link, '/');
  await page.getByText('Ao vivo', { exact: true }).waitFor();
  await link.cut();
  const banner = page.locator('#cut-banner');
  await banner.getByText('os botões não gravam').waitFor();
  await page.getByRole('button', { name: 'Novo médico' }).click();
  await page.getByText('Não foi gravado: o Recado não responde.').waitFor();
  expect(await banner.textContent()).not.toContain('continuam gravando');
  expect(await violations(page)).toEqual([]);
  await screenshot(page, 'relay-stopped');
  await link.mend();
  await page.getByText('Ao vivo', { exact: true }).waitFor({ timeout: 20_000 });
  await link.cut();
});

test('with the relay stopped, Operação keeps the last values, with their time', async () => {
  const link = await openLink(stage.demo.url);
  const page = await stage.openPage(link, '/#operacao');
  const node = page.locator('#nodes td', { hasText: 'backend' }).first();
  await node.waitFor();
  const name = await node.textContent();
  await link.cut();
  await page.getByText('O relay não responde').waitFor();
  expect(await page.locator('#operations').getAttribute('data-stale')).toMatch(
    /^Valores de .*\d\d:\d\d:\d\d/,
  );
  expect(await node.textContent()).toBe(name);
  expect(await violations(page)).toEqual([]);
  await screenshot(page, 'operations-stopped');
  await link.mend();
  await page.locator('#operations:not([data-stale])').waitFor();
  await link.cut();
});

test('with the database away, Operação keeps what it said last, and does not say that no node reads', async () => {
  const page = await stage.openPage(stage.demo, '/#operacao');
  const nodes = page.locator('#nodes');
  await nodes.locator('td', { hasText: 'backend' }).first().waitFor();
  await page.route('**/console/operations', async (route) => {
    const answer = await route.fetch();
    await route.fulfill({
      json: { ...(await answer.json()), ready: false, database: null, error: 'no answer' },
    });
  });
  await page.getByText('Não atende').waitFor();
  expect(await nodes.textContent()).toContain('backend');
  expect(await page.locator('.of-database').first().getAttribute('data-stale')).toMatch(/^Valores de /);
});

interface Link {
  url: string;
  cut(): Promise<void>;
  mend(): Promise<void>;
}

/** Another port that leads to the same relay, until it is cut. */
async function openLink(to: string): Promise<Link> {
  const sockets = new Set<Socket>();
  let port = 0;
  let server: Server;
  async function mend(): Promise<void> {
    server = createServer((near) => {
      const far = connect(Number(new URL(to).port), '127.0.0.1');
      for (const socket of [near, far]) {
        sockets.add(socket);
        socket.on('error', () => undefined).on('close', () => sockets.delete(socket));
      }
      near.pipe(far).pipe(near);
    });
    server.listen(port, '127.0.0.1');
    await once(server, 'listening');
    port = portOf(server);
  }
  await mend();
  return {
    url: `http://127.0.0.1:${port}`,
    mend,
    async cut() {
      const closed = once(server, 'close');
      server.close();
      for (const socket of sockets) socket.destroy();
      await closed;
    },
  };
}
