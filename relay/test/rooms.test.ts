// The direction of imports between the rooms is a lint rule (biome.rooms.json). Here: that the rule knows every room
// and that a forbidden import turns the lint red.
import { execFile } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { packageRoot } from '../package.ts';

/** Lints a file that is there only for the moment. */
async function lint(room: string, text: string): Promise<{ red: boolean; output: string }> {
  const path = join('relay', room, `planted-${randomBytes(4).toString('hex')}.ts`);
  await writeFile(join(packageRoot, path), text);
  try {
    return await new Promise((resolve) => {
      execFile(
        process.execPath,
        ['node_modules/@biomejs/biome/bin/biome', 'lint', '--only=style/noRestrictedImports', path],
        { cwd: packageRoot },
        (error, stdout, stderr) => resolve({ red: error !== null, output: stdout + stderr }),
      );
    });
  } finally {
    await rm(join(packageRoot, path));
  }
}

test('every room has its rule', async () => {
  const rules = await readFile(join(packageRoot, 'biome.rooms.json'), 'utf8');
  const files = await readdir(join(packageRoot, 'relay'), { recursive: true });
  // The browser package imports nothing of the relay: it has no rule, and nobody imports it.
  const rooms = new Set(files.filter((file) => /^(?!test|client).+\/.+\.ts$/.test(file)).map(dirname));
  expect(rooms).toContain('commands/doctor');
  expect([...rooms].filter((room) => !rules.includes(`"relay/${room}/**"`))).toEqual([]);
});

test.each([
  [
    'an import',
    'feed',
    "import { startRelay } from '../server/relay.ts';\nexport const planted = startRelay;\n",
  ],
  [
    'an import of types',
    'feed',
    "import type { Relay } from '../server/relay.ts';\nexport type Planted = Relay;\n",
  ],
  ['an import while it runs', 'feed', "export const planted = () => import('../server/relay.ts');\n"],
  [
    'an import',
    'evolution/api',
    "import { createStore } from '../ingest/store.ts';\nexport const planted = createStore;\n",
  ],
  ['an import', 'commands/doctor', "import { print } from '../process.ts';\nexport const planted = print;\n"],
  [
    'an import',
    'delivery/live',
    "import { CatchUp } from '../catch-up/catch-up.ts';\nexport const planted = CatchUp;\n",
  ],
  [
    'an import of what holds the rooms together',
    'evolution/ingest',
    "import { connectInstance } from '../connection.ts';\nexport const planted = connectInstance;\n",
  ],
])('%s from a room above %s is refused', async (_kind, room, text) => {
  const { red, output } = await lint(room, text);
  expect(output).toContain(`relay/${room}/ imports only from the rooms below it`);
  expect(red).toBe(true);
});

test.each([
  ['feed', "import { openReader } from '../db/connect.ts';\nexport const planted = openReader;\n"],
  ['evolution/ingest', "import { createApi } from '../api/api.ts';\nexport const planted = createApi;\n"],
])('an import from a room below %s is let in', async (room, text) => {
  expect(await lint(room, text)).toMatchObject({ red: false });
});
