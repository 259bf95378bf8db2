// What the alert RecadoWhatsAppAway watches: an instance that waits for the server's first event hears nothing.
import { createStore } from '../../evolution/ingest/store.ts';
import { gaugeInstances } from '../../evolution/overview.ts';
import { createMetrics } from '../../metrics.ts';
import { addInstance, startWorld, type World } from './world.ts';

let world: World;
beforeAll(async () => {
  world = await startWorld();
});
afterAll(() => world.close());

test.each([
  ['connected', 1],
  ['polling', 1],
  ['waiting', 0],
  ['unauthorized', 0],
])('an instance that is %s counts as connected: %d', async (status, gauge) => {
  const { id, name } = await addInstance(world, { name: status });
  // Without a worker none is connected, whatever the row says.
  await createStore(world.pool, { id: '00000000-0000-0000-0000-000000000001', host: 'test', pid: 1 }).claim();
  await world.rows(`update evolution.leases set until = 'infinity'`);
  await world.rows('update evolution.instances set status = $2 where id = $1', [id, status]);
  const metrics = createMetrics();
  await gaugeInstances(world.pool, metrics);
  expect(await metrics.registry.metrics()).toContain(
    `recado_evolution_connected{instance="${name}"} ${gauge}`,
  );
});
