import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { packageRoot, variablesAsMarkdown } from '../config.ts';

const pages = [
  'README.md',
  'docs/ui-developer.md',
  'docs/dba.md',
  'docs/operator.md',
  'docs/threat-model.md',
];
const read = (page: string) => readFileSync(join(packageRoot, page), 'utf8');

test('the README shows the settings as they are', () => {
  expect(read('README.md')).toContain(variablesAsMarkdown().trim());
});

test.each(pages)('%s links to what exists', (page) => {
  const folder = join(packageRoot, page, '..');
  for (const [, target] of read(page).matchAll(/\]\(((?!https?:)[^)#]+)\)/g)) {
    expect([target, existsSync(join(folder, target!))]).toEqual([target, true]);
  }
});

test('the npm scripts it names exist', () => {
  const { scripts } = JSON.parse(read('package.json')) as { scripts: Record<string, string> };
  const known = ['start', 'test', 'ci', ...Object.keys(scripts)];
  for (const page of pages) {
    for (const [, name] of read(page).matchAll(/npm (?:run )?([a-z:0-9]+)/g)) expect(known).toContain(name);
  }
});
