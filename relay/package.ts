// Where we are installed.
import { existsSync, readFileSync } from 'node:fs';
import { dirname, join, sep } from 'node:path';
import { fileURLToPath } from 'node:url';
import { RecadoError } from './errors.ts';

/** Absolute path of the folder that holds our package.json, migrations/ and sql/. Found by walking up, since this file runs from relay/ and from dist/relay/. */
export const packageRoot: string = findPackageRoot(dirname(fileURLToPath(import.meta.url)));

/**
 * How a command of ours is typed here: in this repository as an npm script, in a project that depends on it by npx.
 * @param options of the command, such as `--whatsapp`
 */
export function commandLine(command: string, ...options: string[]): string {
  const installed = packageRoot.split(sep).includes('node_modules');
  if (installed) return ['npx recado', command, ...options].join(' ');
  return ['npm run', command, ...(options.length > 0 ? ['--'] : []), ...options].join(' ');
}

/** Our version, from package.json. */
export const version: string = manifestIn(packageRoot)?.version ?? 'unknown';

function findPackageRoot(folder: string): string {
  if (manifestIn(folder)?.name === 'recado') return folder;
  const parent = dirname(folder);
  if (parent === folder) {
    throw new RecadoError(
      'package_incomplete',
      `No package.json named recado was found above ${import.meta.url}. Install the package whole: it needs its migrations and sql folders.`,
    );
  }
  return findPackageRoot(parent);
}

function manifestIn(folder: string): { name?: string; version?: string } | null {
  const file = join(folder, 'package.json');
  return existsSync(file) ? JSON.parse(readFileSync(file, 'utf8')) : null;
}
