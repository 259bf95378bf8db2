// What a connection costs that only listens: resident memory of the server, after a collection, and whose objects the heap
// holds.
import type { Child, Usage } from './child.ts';
import { type Figure, median } from './figures.ts';
import { type Held, OWNERS, type Owner } from './heap.ts';
import { ACCOUNTS } from './peers.ts';
import { authOf, type Bench, inOrder, serve } from './run.ts';

const CLIENTS = 5_000;
/** They bring code and caches with them that are not the others'. */
const FIRST = 200;

type Name = 'recado' | 'textbook';
const LABELS: Record<Name, string> = { recado: 'recado', textbook: 'stock Socket.IO' };

/** What `read` returns for the server: with the first clients, then with all. */
async function compare<T>(bench: Bench, name: Name, read: (server: Child) => Promise<T>): Promise<[T, T]> {
  const served = await serve(bench, name);
  try {
    const auths = await Promise.all(Array.from({ length: ACCOUNTS }, (_, n) => authOf(name, n + 1)));
    const open = (count: number) =>
      served.clients.ask('open', { port: served.port, protocol: 'socket.io', count, auths });
    await open(FIRST);
    const before = await read(served.server);
    await open(CLIENTS - FIRST);
    return [before, await read(served.server)];
  } finally {
    await served.close();
  }
}

const each = (from: number, to: number) => (to - from) / (CLIENTS - FIRST);

/** KiB of resident memory a connection. */
async function resident(bench: Bench, name: Name): Promise<number> {
  const [before, after] = await compare(bench, name, (server) => server.ask<Usage>('usageAfterCollection'));
  return each(before.memory, after.memory) / 1_024;
}

/** Bytes of the heap a connection. By a server of its own: a snapshot takes memory itself. */
async function heldOf(bench: Bench, name: Name): Promise<Map<Owner, number>> {
  const [before, after] = await compare(bench, name, (server) => server.ask<Held>('whoHolds'));
  return new Map(OWNERS.map((owner) => [owner, each(before[owner], after[owner])]));
}

export async function memory(bench: Bench): Promise<Figure[]> {
  const section = 'memory, 5,000 clients';
  const unit = 'KiB/connection';
  const names: readonly Name[] = ['recado', 'textbook'];
  const results = { recado: [] as number[], textbook: [] as number[] };
  for (let round = 0; round < bench.rounds; round += 1) {
    for (const name of inOrder(names, round)) {
      const result = await resident(bench, name);
      results[name].push(result);
      bench.say(`memory ${round + 1}/${bench.rounds}: ${name}: ${result.toFixed(1)} ${unit}`);
    }
  }
  const { recado, textbook } = results;
  const figures: Figure[] = [
    { section, what: LABELS.recado, value: median(recado), rounds: recado, unit, limit: { atMost: 12 } },
    { section, what: LABELS.textbook, value: median(textbook), rounds: textbook, unit },
  ];
  for (const name of names) {
    for (const [owner, value] of await heldOf(bench, name)) {
      figures.push({
        section,
        what: `${LABELS[name]}: of the heap, held by ${owner}`,
        value,
        unit: 'bytes/connection',
      });
    }
  }
  return figures;
}
