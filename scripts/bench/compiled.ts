// The relay as it is published. tsx, which runs the benchmark's own files, adds a call for each function that is made,
// to keep its name; the compiled files do not pay that.
import { join } from 'node:path';
import { packageRoot } from '../../relay/package.ts';

/** @param file below relay/, such as `server/relay.js`; `npm run build` makes it */
export function compiled<Module>(file: string): Promise<Module> {
  return import(join(packageRoot, 'dist', 'relay', file));
}
