// The two ways to be told to refetch that the promise allows: another epoch, and a position older than the events
// that are kept. Every client is told once, on a connection that does not say it recovered, and is live afterwards.
import { setTimeout as sleep } from 'node:timers/promises';
import { until } from '../world.ts';
import type { Client } from './clients.ts';
import { ACCOUNTS } from './database.ts';
import { markEnd } from './marks.ts';
import { PATIENCE_MS, type RelayNode } from './nodes.ts';
import type { Figure, Verdict } from './report.ts';
import type { Server } from './server.ts';
import type { World } from './world.ts';

export async function runResyncs(world: World, verdict: Verdict): Promise<Figure[]> {
  const epoch = await interrupt(world, 'epoch', newEpoch, verdict);
  const retention = await interrupt(world, 'retention', emptyOutbox, verdict);
  return [
    ['told of another epoch', epoch],
    ['told of emptied events', retention],
  ];
}

/** A storage snapshot was restored while all relays were down. */
async function newEpoch(server: Server): Promise<void> {
  await server.query('select relay.new_epoch()');
}

/** As relay.empty_slot() does it, without the wait for events to grow old. */
async function emptyOutbox(server: Server): Promise<void> {
  await markEnd(server, ACCOUNTS);
  await server.query(
    `with last as (select xid, relay.witness(created_at) as witness from relay.events order by xid desc, id desc limit 1)
     update relay.installation set emptied_through = last.xid, emptied_witness = last.witness, emptied_in = pg_current_snapshot() from last`,
  );
  await server.query("begin; set local relay.removing = 'on'; truncate relay.events; commit");
}

/** All of them are down while the work is done. */
async function restartAll(
  [node, ...rest]: readonly RelayNode[],
  whileDown: () => Promise<void>,
): Promise<void> {
  if (!node) return whileDown();
  await node.restart('SIGTERM', () => restartAll(rest, whileDown));
}

/** @returns how many clients were told, and then heard what followed */
async function interrupt(
  { nodes, clients, server }: World,
  reason: string,
  whileDown: (server: Server) => Promise<void>,
  verdict: Verdict,
): Promise<number> {
  const seenBefore = new Map(clients.map((client) => [client, client.seenCount]));
  const told = (client: Client) => client.figures.resyncs.get(reason) ?? 0;
  await restartAll(nodes, () => whileDown(server));
  await Promise.all(nodes.map((node) => node.ready(PATIENCE_MS)));
  await until('every client is told', () => clients.every((client) => told(client) > 0), 30_000).catch(
    () => undefined,
  );
  const marks = await markEnd(server, ACCOUNTS);
  const live = (client: Client) => client.hasHeard(marks.get(client.account)!);
  await until('every client is live', () => clients.every(live), 30_000).catch(() => undefined);
  await sleep(500);

  let right = 0;
  for (const client of clients) {
    const { name, figures } = client;
    const resyncs = [...figures.resyncs].map(([why, count]) => `${count} × ${why}`).join(', ');
    const news = client.seenCount - seenBefore.get(client)!;
    if (told(client) !== 1 || figures.resyncs.size !== 1) {
      verdict.add(
        'resyncs',
        `${name} was to be told "${reason}" once, and was told: ${resyncs || 'nothing'}`,
      );
    } else if (!live(client) || news !== 1) {
      verdict.add(
        'missing',
        `${name} heard ${news} events, not one, after it was told to refetch (${reason})`,
      );
    } else right += 1;
    figures.resyncs.clear();
  }
  return right;
}
