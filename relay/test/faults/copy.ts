// The relay under test runs from a copy, so that a build meanwhile does not change it; and so that an error can be
// put into it (mutations.ts).
import { cp, mkdir, readFile, symlink, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { packageRoot } from '../../package.ts';

/** A text of a built file, or of one in sql/, and what stands there instead. */
export interface Edit {
  /** Beneath dist/relay, or sql/… */
  readonly file: string;
  readonly find: string;
  readonly put: string;
}

/**
 * @returns the main.js of the copy
 * @throws Error when a text to be replaced is not there exactly once: the code has changed, and the edit must too
 */
export async function copyRelay(folder: string, edits: readonly Edit[] = []): Promise<string> {
  const copy = join(folder, 'package');
  await mkdir(copy);
  const manifest = await readFile(join(packageRoot, 'package.json'), 'utf8');
  await writeFile(join(copy, 'package.json'), manifest);
  // What is published, and what it needs.
  const { files } = JSON.parse(manifest) as { files: string[] };
  for (const path of [...files.filter((file) => file !== 'dist'), 'node_modules']) {
    await mkdir(dirname(join(copy, path)), { recursive: true });
    if (path === 'sql') await cp(join(packageRoot, path), join(copy, path), { recursive: true });
    else await symlink(join(packageRoot, path), join(copy, path));
  }
  await cp(join(packageRoot, 'dist'), join(copy, 'dist'), { recursive: true });
  for (const { file, find, put } of edits) {
    const path = file.startsWith('sql/') ? join(copy, file) : join(copy, 'dist/relay', file);
    const before = await readFile(path, 'utf8');
    const places = before.split(find).length - 1;
    if (places !== 1) {
      throw new Error(`${file} has ${places} times, not once, the text to be replaced: ${find}`);
    }
    await writeFile(
      path,
      before.replace(find, () => put),
    );
  }
  return join(copy, 'dist/relay/main.js');
}
