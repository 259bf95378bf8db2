// What faults happen to, and how a kind of fault is described.
import type { Chance } from './chance.ts';
import type { Client } from './clients.ts';
import type { Undone } from './compare.ts';
import type { Disturbances } from './disturbances.ts';
import type { Ledger } from './ledger.ts';
import type { RelayNode } from './nodes.ts';
import type { OtherProcess } from './other-process.ts';
import type { Server } from './server.ts';
import type { Beyond, Stage } from './stage.ts';
import type { Writers } from './writers.ts';

export interface World {
  readonly stage: Stage;
  readonly server: Server;
  readonly nodes: readonly RelayNode[];
  /** null: the nodes read the database. */
  readonly stream: Beyond | null;
  readonly clients: readonly Client[];
  /** Clients that live in a process of their own, and the node they are connected to. */
  readonly others: readonly { readonly process: OtherProcess; readonly node: RelayNode }[];
  readonly writers: Writers;
  readonly disturbances: Disturbances;
  readonly ledger: Ledger;
  /** What the database has forgotten, since it went back in time. */
  readonly undone: Undone[];
  /** How often a client may be told to refetch at most, by reason. */
  readonly mayRefetch: Map<string, number>;
}

export interface FaultKind {
  readonly name: string;
  /** How often, compared with the others. */
  readonly weight: number;
  /** Resolves when it is healed. */
  readonly happen: (world: World, chance: Chance) => Promise<void>;
}

/** A stock client tries again within 7.5 seconds; a node that comes back needs as long, and so does its feed. */
export const RECONNECT_MS = 12_000;
/** For what nobody has to reconnect after. */
export const SETTLE_MS = 4_000;

/** Does the work, which is in the way of everybody whose node this is. */
export function disturbNode(world: World, node: RelayNode, recoveryMs: number, work: () => Promise<unknown>) {
  const clients = () => [
    ...world.clients.filter(({ link }) => link.target === node.port),
    ...world.others.filter((other) => other.node === node).flatMap(({ process }) => process.pages),
  ];
  return world.disturbances.during(clients, recoveryMs, work);
}

/** A tenth to six tenths of them. */
export function some<T>(of: readonly T[], chance: Chance): T[] {
  return chance.shuffled(of).slice(0, Math.ceil(of.length * (0.1 + 0.5 * chance.fraction())));
}
