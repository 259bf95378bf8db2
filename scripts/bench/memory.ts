// What a connection costs that only listens: resident memory of the server, after a collection, with 5,000 and none.
import type { Usage } from './child.ts';
import { type Figure, median } from './figures.ts';
import { ACCOUNTS } from './peers.ts';
import { authOf, type Bench, inOrder, serve } from './run.ts';

const CLIENTS = 5_000;

async function measure(bench: Bench, name: 'recado' | 'textbook'): Promise<number> {
  const served = await serve(bench, name);
  try {
    const auths = await Promise.all(Array.from({ length: ACCOUNTS }, (_, n) => authOf(name, n + 1)));
    const open = (count: number) =>
      served.clients.ask('open', { port: served.port, protocol: 'socket.io', count, auths });
    // Code and caches that the first clients bring with them are not the others'.
    await open(200);
    const before = await served.server.ask<Usage>('usageAfterCollection');
    await open(CLIENTS - 200);
    const after = await served.server.ask<Usage>('usageAfterCollection');
    return (after.memory - before.memory) / 1024 / (CLIENTS - 200);
  } finally {
    await served.close();
  }
}

export async function memory(bench: Bench): Promise<Figure[]> {
  const section = 'memory, 5,000 clients';
  const unit = 'KiB/connection';
  const names = ['recado', 'textbook'] as const;
  const results = { recado: [] as number[], textbook: [] as number[] };
  for (let round = 0; round < bench.rounds; round += 1) {
    for (const name of inOrder(names, round)) {
      const result = await measure(bench, name);
      results[name].push(result);
      bench.say(`memory ${round + 1}/${bench.rounds}: ${name}: ${result.toFixed(1)} ${unit}`);
    }
  }
  const { recado, textbook } = results;
  return [
    { section, what: 'recado', value: median(recado), rounds: recado, unit, limit: { atMost: 16 } },
    { section, what: 'stock Socket.IO', value: median(textbook), rounds: textbook, unit },
  ];
}
