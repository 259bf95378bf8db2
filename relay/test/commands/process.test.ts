// How the process of a command ends.
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import { packageRoot } from '../../package.ts';

const module = (file: string) => JSON.stringify(join(packageRoot, 'dist/relay', file));

test('a process whose parts never close, and keep nothing open, still ends with exit code 0', async () => {
  const script = `
    const { until } = await import(${module('commands/process.js')});
    const { createLog } = await import(${module('log.js')});
    const server = setInterval(() => process.kill(process.pid, 'SIGTERM'));
    const close = () => new Promise(() => clearInterval(server));
    await until(createLog('silent', false), { close });`;
  const child = spawn(process.execPath, ['--input-type=module', '-e', script], { stdio: 'ignore' });
  const [code] = await once(child, 'exit');
  expect(code).toBe(0);
});
