// npm run fuzz -- --inputs 1000000 --seed 1
import { parseArgs } from 'node:util';
import { fuzz } from './inputs.ts';

const { values } = parseArgs({
  options: { inputs: { type: 'string', default: '1000000' }, seed: { type: 'string' } },
});
const seed = Number(values.seed ?? Date.now() % 1_000_000);
process.on('unhandledRejection', (error) => {
  process.stdout.write(`unhandled: ${String(error)}\n`);
  process.exitCode = 1;
});
const began = performance.now();
const { wrong, slowestMs, slowest } = await fuzz(seed, Number(values.inputs));
const seconds = Math.round((performance.now() - began) / 1_000);
process.stdout.write(
  `seed ${seed}: ${values.inputs} inputs in ${seconds} s, slowest ${slowestMs.toFixed(1)} ms (${slowest}); ${wrong ?? 'nothing wrong'}\n`,
);
if (wrong !== null) process.exitCode = 1;
