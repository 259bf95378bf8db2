// The planted errors are edits of built files, and of SQL: code that changes must take them along.
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { packageRoot } from '../../package.ts';
import { ERRORS } from './errors.ts';

test.each(ERRORS.map((error) => [error.name, error] as const))(
  '"%s" can be planted',
  async (_, { edits }) => {
    for (const { file, find } of edits) {
      const folder = file.startsWith('sql/') ? packageRoot : join(packageRoot, 'dist/relay');
      const text = await readFile(join(folder, file), 'utf8');
      expect({ file, find, places: text.split(find).length - 1 }).toEqual({ file, find, places: 1 });
    }
  },
);
