// The first process of several edges, which reads the stream for all of them.
import { readSettings } from '../../config/settings.ts';
import { startSharedReader } from '../../server/shared-reader.ts';
import { Link } from '../faults/links.ts';
import { hearing } from '../hearing.ts';
import { deadPort, freshDatabase, through, until } from '../world.ts';

test('a database that is away at the start is waited for', async () => {
  const database = await freshDatabase();
  const link = await Link.to(Number(new URL(database.url).port));
  const real = link.target;
  link.point(await deadPort());
  const said: string[] = [];
  const streamUrl = `redis://127.0.0.1:${await deadPort()}`;
  const { relay, stream } = readSettings({
    STREAM_URL: streamUrl,
    RELAY_PROCESSES: '2',
    JWT_SECRET: 'x'.repeat(32),
  });
  const starting = startSharedReader(
    through(link, database.url),
    { relay, stream },
    hearing((name) => said.push(name)),
  );
  await Promise.race([starting, until('it has tried', () => said.includes('database_unreachable'))]);
  link.point(real);
  const reader = await starting;
  await reader.close();
  await link.close();
  await database.close();
});
