// The direction of imports between the rooms is a lint rule (biome.rooms.json). Here: that the rule knows every room
// and that a forbidden import turns the lint red.
import { execFile } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import { packageRoot } from '../package.ts';

/** Lints files that are there only for the moment. */
async function lint(
  rule: string,
  texts: Readonly<Record<string, string>>,
): Promise<{ red: boolean; output: string }> {
  const paths = Object.keys(texts);
  for (const path of paths) await writeFile(join(packageRoot, path), texts[path]!);
  try {
    return await new Promise((resolve) => {
      execFile(
        process.execPath,
        ['node_modules/@biomejs/biome/bin/biome', 'lint', `--only=${rule}`, ...paths],
        { cwd: packageRoot },
        (error, stdout, stderr) => resolve({ red: error !== null, output: stdout + stderr }),
      );
    });
  } finally {
    for (const path of paths) await rm(join(packageRoot, path));
  }
}

const plantedIn = (room: string) => join('relay', room, `planted-${randomBytes(4).toString('hex')}.ts`);

const lintImports = (room: string, text: string) =>
  lint('style/noRestrictedImports', { [plantedIn(room)]: text });

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
  const { red, output } = await lintImports(room, text);
  expect(output).toContain(`relay/${room}/ imports only from the rooms below it`);
  expect(red).toBe(true);
});

test.each([
  ['feed', "import { openReader } from '../db/connect.ts';\nexport const planted = openReader;\n"],
  ['evolution/ingest', "import { createApi } from '../api/api.ts';\nexport const planted = createApi;\n"],
])('an import from a room below %s is let in', async (room, text) => {
  expect(await lintImports(room, text)).toMatchObject({ red: false });
});

test('a circle is refused, even one of types', async () => {
  const [one, other] = [plantedIn('feed'), plantedIn('feed')];
  const imports = (path: string) =>
    `import type { Planted as Next } from './${basename(path)}';\nexport interface Planted { next: Next }\n`;
  const { red, output } = await lint('suspicious/noImportCycles', {
    [one]: imports(other),
    [other]: imports(one),
  });
  expect(output).toContain('This import is part of a cycle');
  expect(red).toBe(true);
});
