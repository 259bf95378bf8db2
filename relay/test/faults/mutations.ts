// Proof that the oracle would notice: each planted error must make its run fail, and fail for the right reason.
//
//   npm run test:faults:mutations -- [--error "positions not cut"] [--attempts 3]
import { execFile } from 'node:child_process';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { packageRoot } from '../../package.ts';
import { ERRORS, errorNamed, type PlantedError } from './errors.ts';

const { values: options } = parseArgs({
  options: { error: { type: 'string' }, attempts: { type: 'string', default: '3' } },
});
const print = (line: string) => void process.stdout.write(`${line}\n`);

/** What a run printed, and how it ended. */
async function runAgainst(error: PlantedError, seed: number): Promise<{ code: number; text: string }> {
  const script = join(packageRoot, 'relay/test/faults/run.ts');
  const args = ['--error', error.name, '--seed', String(seed), ...error.run];
  return new Promise((resolve) => {
    const child = execFile(
      process.execPath,
      ['--enable-source-maps', '--import', 'tsx', script, ...args],
      { cwd: packageRoot, maxBuffer: 16 * 1024 * 1024 },
      (_failure, stdout, stderr) => resolve({ code: child.exitCode ?? -1, text: stdout + stderr }),
    );
  });
}

/** The count of a violation in the table that a run prints. */
function countOf(violation: string, text: string): number {
  return Number(new RegExp(`^ {2}${violation} +(\\d+)$`, 'm').exec(text)?.[1] ?? 0);
}

let unnoticed = 0;
for (const error of options.error === undefined ? ERRORS : [errorNamed(options.error)]) {
  let noticed = false;
  for (let attempt = 1; attempt <= Number(options.attempts) && !noticed; attempt += 1) {
    const { code, text } = await runAgainst(error, attempt);
    const counts = error.noticedAs.map((violation) => `${countOf(violation, text)} ${violation}`);
    noticed = code === 1 && error.noticedAs.some((violation) => countOf(violation, text) > 0);
    print(`${error.name}, seed ${attempt}: ${noticed ? 'noticed' : 'NOT NOTICED'}, ${counts.join(', ')}`);
    for (const line of text
      .split('\n')
      .filter((each) => each.startsWith('  !'))
      .slice(0, 2))
      print(line);
    // An error of ours is none of the relay's.
    if (!/^(Kept|Broke) its promise/m.test(text)) throw new Error(`The run did not get to its end: ${text}`);
  }
  if (!noticed) unnoticed += 1;
}
print(unnoticed === 0 ? 'Every error was noticed.' : `${unnoticed} errors were not noticed.`);
process.exit(unnoticed === 0 ? 0 : 1);
