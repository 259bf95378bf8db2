// npm scripts run in sh, and on Windows in cmd.exe.
import { accessSync, constants, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { packageRoot } from '../../package.ts';

const read = (file: string) => readFileSync(join(packageRoot, file), 'utf8');
const { scripts } = JSON.parse(read('package.json')) as { scripts: Record<string, string> };

/** They need Debian as well. */
const ON_DEBIAN = ['test:image', 'test:postgres15'];

/** What sh understands and cmd.exe does not, or understands otherwise. */
const OF_SH = {
  'single quotes': /(?:^|\s)'|'(?:\s|$)/,
  'a variable or a substitution': /[$`]/,
  'a setting before a command': /(?:^|&& )\w+=/,
  'a semicolon between commands': /; *\w+ /,
  'a program of Unix': /(?:^|&& )(?:rm|cp|mv|mkdir|cat|sh|bash|env|export|true|test) /,
  'a script for sh': /\.sh\b/,
};

const found = (script: string) =>
  Object.entries(OF_SH).flatMap(([what, pattern]) => (pattern.test(script) ? [what] : []));

test('scripts are the same in sh and in cmd.exe', () => {
  const off = Object.entries(scripts).filter(
    ([name, script]) => !ON_DEBIAN.includes(name) && found(script).length > 0,
  );
  expect(off).toEqual([]);
  for (const name of ON_DEBIAN) expect(found(scripts[name]!)).toContain('a script for sh');
});

test('what a script of sh would look like is found', () => {
  const examples = {
    "tsx watch --exclude 'a/**' b.ts": ['single quotes'],
    'node $HOME/a.js': ['a variable or a substitution'],
    'PORT=0 node a.js': ['a setting before a command'],
    'cd a; node b.js': ['a semicolon between commands'],
    'rm -rf dist && tsc': ['a program of Unix'],
  };
  for (const [script, what] of Object.entries(examples))
    expect([script, found(script)]).toEqual([script, what]);
});

/** npx runs the file itself. */
test('the built command is executable', () => {
  accessSync(join(packageRoot, 'dist/relay/main.js'), constants.X_OK);
});

/** sh has a word `exec`; cmd.exe finds a file of that name in the folder where npm runs its scripts. */
test('where a script says exec, cmd.exe finds one', () => {
  expect(Object.values(scripts).some((script) => script.startsWith('exec '))).toBe(true);
  const lines = read('exec.cmd').trim().split(/\r?\n/);
  expect(lines.at(-1)).toBe('@%*');
  expect(lines.slice(0, -1).filter((line) => !line.startsWith('@rem '))).toEqual([]);
});
