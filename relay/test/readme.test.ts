import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { settingsAsMarkdown } from '../config/print.ts';
import { packageRoot } from '../package.ts';

const pages = [
  'README.md',
  'docs/ui-developer.md',
  'docs/dba.md',
  'docs/operator.md',
  'docs/threat-model.md',
  'docs/testing.md',
  'docs/not-possible.md',
  'docs/deploy.md',
  'docs/small-vm.md',
  'relay/client/README.md',
];
const read = (page: string) => readFileSync(join(packageRoot, page), 'utf8');

test('the README shows the settings as they are', () => {
  expect(read('README.md')).toContain(settingsAsMarkdown().trim());
});

test.each(pages)('%s links to what exists', (page) => {
  const folder = join(packageRoot, page, '..');
  for (const [, target] of read(page).matchAll(/\]\(((?!https?:)[^)#]+)\)/g)) {
    expect([target, existsSync(join(folder, target!))]).toEqual([target, true]);
  }
});

test('the npm scripts it names exist', () => {
  const { scripts } = JSON.parse(read('package.json')) as { scripts: Record<string, string> };
  const known = ['start', 'test', 'ci', 'prune', 'install', 'pack', ...Object.keys(scripts)];
  for (const page of pages) {
    for (const [, name] of read(page).matchAll(/npm (?:run )?([a-z:0-9]+)/g)) expect(known).toContain(name);
  }
});

test('the page for the DBA explains every code of relay.check()', () => {
  const folder = join(packageRoot, 'sql/relay');
  const files = readdirSync(folder).filter((name) => name.includes('check'));
  const sql = files.map((name) => readFileSync(join(folder, name), 'utf8')).join('\n');
  // What is assigned to `problem`, also by way of CASE.
  const assigned = [
    ...sql.matchAll(
      /problem :=([^;]*);|case when (c\.relrowsecurity[^,]*) end|case when (e\.event = [^,]*) end as problem/g,
    ),
  ];
  const codes = assigned.flatMap(([text]) =>
    [...text.matchAll(/(?:then|else|:=) '([a-z_]+)'/g)].map(([, code]) => code!),
  );
  expect(codes.length).toBeGreaterThan(25);
  for (const code of codes) expect(read('docs/dba.md')).toContain(`\`${code}\``);
});
