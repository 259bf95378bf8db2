// recado-client as npm packs it: its consumers, its types, its size. Without network: what a consumer would install
// besides is linked from this repository. relay/test/client/browser.test.ts installs it into fresh projects.
import { execFile } from 'node:child_process';
import { mkdir, mkdtemp, readdir, readFile, rm, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { gzipSync } from 'node:zlib';
import { minify } from '@swc/core';
import { toTypeScript } from '../../contract/typescript.ts';
import { packageRoot } from '../../package.ts';

const run = promisify(execFile);
const tsc = join(packageRoot, 'node_modules/typescript/bin/tsc');
/** Most bytes of a page's own code, gzipped: without socket.io-client, React and Vue. */
const MOST_BYTES = 6_000;

let folder: string;
let installed: string;

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'recado-client-package-'));
  installed = join(folder, 'node_modules/recado-client');
  await mkdir(installed, { recursive: true });
  const { stdout } = await run('npm', ['pack', '--json', '--pack-destination', folder], {
    cwd: join(packageRoot, 'relay/client'),
  });
  const [, tarball] = /"filename":\s*"([^"]+)"/.exec(stdout)!;
  await run('tar', ['-xzf', join(folder, tarball!), '-C', installed, '--strip-components=1']);
  for (const name of ['socket.io-client', 'react', 'vue', '@types', 'csstype']) {
    await symlink(join(packageRoot, 'node_modules', name), join(folder, 'node_modules', name));
  }
  const payload = { type: 'object', properties: { id: { type: 'integer' }, name: { type: 'string' } } };
  const event = { room: 'r', table: 't', trigger: 't', description: null, sample: null };
  const contract = [
    { ...event, event: 'doctors.created', payload: { ...payload, required: ['id', 'name'] } },
    { ...event, event: 'doctors.deleted', payload: { type: 'integer' } },
  ];
  await writeFile(join(folder, 'events.ts'), toTypeScript(contract as never));
}, 60_000);

afterAll(() => rm(folder, { recursive: true, force: true }));

/** What the program prints. */
async function print(file: string, program: string): Promise<string> {
  await writeFile(join(folder, file), program);
  const { stdout } = await run(process.execPath, [join(folder, file)]);
  return stdout;
}

/** What tsc says about the program. */
async function compile(file: string, program: string, options: string[]): Promise<string> {
  await writeFile(join(folder, file), program);
  const common = ['--noEmit', '--strict', '--ignoreConfig', '--jsx', 'react-jsx', '--types', 'node'];
  try {
    await run(process.execPath, [tsc, ...common, '--lib', 'es2022,dom', ...options, join(folder, file)]);
    return '';
  } catch (error) {
    return (error as { stdout?: string }).stdout || String(error);
  }
}

test('an ES module imports it, and CommonJS requires it', async () => {
  const names = '[typeof connect, typeof upsert, typeof useLiveList].join()';
  for (const framework of ['react', 'vue']) {
    const esm = `import { connect, upsert } from 'recado-client';
      import { useLiveList } from 'recado-client/${framework}'; process.stdout.write(${names});`;
    const cjs = `const { connect, upsert } = require('recado-client');
      const { useLiveList } = require('recado-client/${framework}'); process.stdout.write(${names});`;
    expect(await print('consumer.mjs', esm)).toBe('function,function,function');
    expect(await print('consumer.cjs', cjs)).toBe('function,function,function');
  }
});

test('Jest in CommonJS requires it', async () => {
  await writeFile(join(folder, 'package.json'), '{"name": "consumer", "private": true}');
  await writeFile(
    join(folder, 'consumer.test.js'),
    `const { connect } = require('recado-client');
     test('connects', () => {
       const client = connect({ url: 'http://127.0.0.1:1', token: () => 'token' });
       expect(client.status.get()).toBe('connecting');
       client.close();
     });`,
  );
  const jest = join(packageRoot, 'node_modules/jest/bin/jest.js');
  const { stderr } = await run(process.execPath, [jest, '--rootDir', folder, '--transform', '{}'], {
    cwd: folder,
    env: { ...process.env, NODE_OPTIONS: '' },
  });
  expect(stderr).toContain('1 passed');
});

const page = `
  import { connect, remove, upsert } from 'recado-client';
  import { useEvent as useReactEvent, useLiveList as useReactList, useRecado } from 'recado-client/react';
  import { useLiveList as useVueList } from 'recado-client/vue';
  import type { ServerToClientEvents } from './events';
  interface Doctor { id: number; name: string }
  const open = () => connect<ServerToClientEvents>({ token: async () => 'token' });
  const options = {
    load: async () => ({ rows: [] as Doctor[], position: 'p' }),
    key: 'id' as const,
    on: { 'doctors.created': upsert, 'doctors.deleted': remove },
  };
  export function inReact() {
    const client = useRecado(open);
    useReactEvent(client, 'doctors.deleted', (id) => { const n: number = id; void n; });
    const { rows, status } = useReactList(client, options);
    const name: string | undefined = rows[0]?.name;
    return [name, status];
  }
  export function inVue() {
    const list = useVueList(open(), options);
    const name: string | undefined = list.value.rows[0]?.name;
    return name;
  }
  const client = open();
  export const inline = client.liveList({
    load: async () => ({ rows: [] as Doctor[] }),
    key: (doctor) => doctor.id,
    on: {
      'doctors.created': upsert,
      'doctors.deleted': (rows, id) => { const n: number = id; rows.delete(n); },
    },
  });
  client.on('doctors.created', ({ name }, position) => { const s: string = name + position; void s; });
  // @ts-expect-error There is no such event.
  client.on('doctors.delted', () => {});
  client.liveList({
    load: async () => ({ rows: [] as Doctor[] }),
    key: 'id',
    // @ts-expect-error There is no such event.
    on: { 'doctors.delted': remove },
  });
  client.liveList({
    load: async () => ({ rows: [] as Doctor[] }),
    // @ts-expect-error Doctors have no such property.
    key: 'uuid',
    on: {},
  });`;

test.each([
  ['a bundler', 'bundled.ts', ['--module', 'esnext', '--moduleResolution', 'bundler']],
  ['Node, ES module', 'module.mts', ['--module', 'nodenext', '--moduleResolution', 'nodenext']],
  ['Node, CommonJS', 'common.cts', ['--module', 'nodenext', '--moduleResolution', 'nodenext']],
])('is typed with the contract, for %s', async (_, file, options) => {
  const events = file.endsWith('.mts') ? './events.mjs' : file.endsWith('.cts') ? './events.cjs' : './events';
  const types = await readFile(join(folder, 'events.ts'), 'utf8');
  await writeFile(join(folder, `events.${file.split('.')[1]}`), types);
  expect(await compile(file, page.replace('./events', events), [...options, '--skipLibCheck'])).toBe('');
});

test(`has fewer than ${MOST_BYTES} bytes gzipped beside socket.io-client, and imports nothing else`, async () => {
  const esm = join(installed, 'dist/esm');
  const files = (await readdir(esm)).filter((name) => name.endsWith('.js'));
  let code = '';
  const imports = new Set<string>();
  for (const name of files) {
    const source = await readFile(join(esm, name), 'utf8');
    for (const [, from] of source.matchAll(/from '([^.'][^']*)'/g)) imports.add(from!);
    code += (await minify(source, { module: true, compress: true, mangle: true })).code;
  }
  expect([...imports].sort()).toEqual(['react', 'socket.io-client', 'vue']);
  const bytes = gzipSync(code).length;
  process.stdout.write(
    `recado-client: ${bytes} bytes minified and gzipped, hooks for React and Vue included\n`,
  );
  expect(bytes).toBeLessThan(MOST_BYTES);
});

test('brings no server code', async () => {
  const manifest = JSON.parse(await readFile(join(installed, 'package.json'), 'utf8')) as {
    dependencies: Record<string, string>;
  };
  expect(Object.keys(manifest.dependencies)).toEqual(['socket.io-client']);
  expect((await readdir(installed)).sort()).toEqual(['README.md', 'dist', 'package.json']);
});
