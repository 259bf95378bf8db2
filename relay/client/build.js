// Compiles the package twice, as ES modules and as CommonJS, into dist/. A package.json in each folder says which it is.
import { execFileSync } from 'node:child_process';
import { mkdirSync, rmSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const folder = dirname(fileURLToPath(import.meta.url));
const tsc = join(dirname(createRequire(import.meta.url).resolve('typescript/package.json')), 'bin/tsc');

rmSync(join(folder, 'dist'), { recursive: true, force: true });
for (const [name, type, options] of [
  ['esm', 'module', []],
  [
    'cjs',
    'commonjs',
    ['--module', 'commonjs', '--moduleResolution', 'bundler', '--verbatimModuleSyntax', 'false'],
  ],
]) {
  const out = join(folder, 'dist', name);
  mkdirSync(out, { recursive: true });
  writeFileSync(join(out, 'package.json'), `${JSON.stringify({ type })}\n`);
  execFileSync(process.execPath, [tsc, '-p', join(folder, 'tsconfig.json'), '--outDir', out, ...options], {
    stdio: 'inherit',
  });
}
