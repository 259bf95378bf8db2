// What a connection costs that only listens: resident memory of the server, after a collection, with 5,000 and none.
import type { Usage } from './child.ts';
import type { Figure } from './figures.ts';
import { ACCOUNTS } from './peers.ts';
import { authOf, type Bench, serve } from './run.ts';

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
  return [
    {
      section,
      what: 'recado',
      value: await measure(bench, 'recado'),
      unit: 'KiB/connection',
      limit: { atMost: 16 },
    },
    { section, what: 'stock Socket.IO', value: await measure(bench, 'textbook'), unit: 'KiB/connection' },
  ];
}
