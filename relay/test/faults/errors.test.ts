// The planted errors are edits of built files, and of SQL: whoever changes that code must change them too.
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { SourceTextModule } from 'node:vm';
import { packageRoot } from '../../package.ts';
import { ERRORS } from './errors.ts';

test.each(ERRORS.map((error) => [error.name, error] as const))(
  '"%s" can be planted, and leaves modules',
  async (_, { edits }) => {
    const planted = new Map<string, string>();
    for (const { file, find, put } of edits) {
      const folder = file.startsWith('sql/') ? packageRoot : join(packageRoot, 'dist/relay');
      const text = planted.get(file) ?? (await readFile(join(folder, file), 'utf8'));
      expect({ file, find, places: text.split(find).length - 1 }).toEqual({ file, find, places: 1 });
      planted.set(
        file,
        text.replace(find, () => put),
      );
    }
    // Throws where the text is no module any more.
    for (const [file, text] of planted) if (file.endsWith('.js')) new SourceTextModule(text);
  },
);
