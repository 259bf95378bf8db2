// The direction of imports between the rooms is a lint rule (biome.rooms.json). Here: that the rule knows every room
// and that a forbidden import turns the lint red.
import { execFile } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { packageRoot } from '../config.ts';

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
  const entries = await readdir(join(packageRoot, 'relay'), { withFileTypes: true });
  const rooms = entries
    .filter((entry) => entry.isDirectory() && entry.name !== 'test')
    .map(({ name }) => name);
  // The browser package imports nothing of the relay: it has no rule, and nobody imports it.
  expect(rooms.filter((room) => !rules.includes(`"relay/${room}/**"`))).toEqual(['client']);
});

test.each([
  ['an import', "import { startRelay } from '../server/relay.ts';\nexport const planted = startRelay;\n"],
  ['an import of types', "import type { Relay } from '../server/relay.ts';\nexport type Planted = Relay;\n"],
  ['an import while it runs', "export const planted = () => import('../server/relay.ts');\n"],
])('%s from a room above is refused', async (_kind, text) => {
  const { red, output } = await lint('feed', text);
  expect(output).toContain('relay/feed/ imports only from the rooms below it');
  expect(red).toBe(true);
});

test('an import from a room below is let in', async () => {
  const text = "import { openReader } from '../db/connect.ts';\nexport const planted = openReader;\n";
  expect(await lint('feed', text)).toMatchObject({ red: false });
});
