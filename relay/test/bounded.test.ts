// Bounds for what another server answers.
import { execFile } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { within } from '../bounded.ts';
import { packageRoot } from '../package.ts';

const forever = (signal: AbortSignal) => once(signal, 'never', { signal });

test('work that takes too long is aborted with the reason, and so is work that its owner aborts', async () => {
  const owner = new AbortController();
  await expect(within(1, owner.signal, forever)).rejects.toMatchObject({
    cause: { message: 'it took too long' },
  });
  const working = within(60_000, owner.signal, forever);
  owner.abort(new Error('closing'));
  await expect(working).rejects.toMatchObject({ cause: { message: 'closing' } });
  await expect(within(60_000, owner.signal, forever)).rejects.toThrow('closing');
});

test('nothing of the work stays with a signal that lives on', async () => {
  const module = JSON.stringify(join(packageRoot, 'dist/relay/bounded.js'));
  const script = `
    const { within } = await import(${module});
    const { signal } = new AbortController();
    const work = async () => {
      for (let n = 0; n < 20_000; n += 1) await within(60_000, signal, async () => undefined);
      for (let n = 0; n < 3; n += 1) await new Promise(setImmediate).then(() => gc());
      return process.memoryUsage().heapUsed;
    };
    const first = await work();
    console.log((await work()) - first);`;
  const flags = ['--expose-gc', '--input-type=module'];
  // Rejects, with what the process wrote to stderr, unless its exit code is 0.
  const { stdout } = await promisify(execFile)(process.execPath, [...flags, '-e', script]);
  expect(stdout).toMatch(/^-?\d+\n$/);
  expect(Number(stdout)).toBeLessThan(500_000);
});
