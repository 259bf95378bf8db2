// Who holds the memory of a process: every object of a heap snapshot counts for the nearest one above it that has an owner.
import { getHeapSnapshot } from 'node:v8';

export const OWNERS = ['socket.io', 'engine.io', 'ws', 'node', 'recado', 'other'] as const;
export type Owner = (typeof OWNERS)[number];
/** Bytes. */
export type Held = Record<Owner, number>;

/** By the name of the class. */
const CLASSES = new Map<string, Owner>([
  ['Client', 'socket.io'],
  ['Encoder', 'socket.io'],
  ['Decoder', 'socket.io'],
  ['Namespace', 'socket.io'],
  ['WebSocket', 'ws'],
  ['Receiver', 'ws'],
  ['Sender', 'ws'],
  ['TCP', 'node'],
  ['Node / TCPSocketWrap', 'node'],
  ['ReadableState', 'node'],
  ['WritableState', 'node'],
  ['IncomingMessage', 'node'],
  ['ServerResponse', 'node'],
  ['HTTPParser', 'node'],
  ['Timeout', 'node'],
  ['TimersList', 'node'],
  ['Subscriber', 'recado'],
  ['SocketConnection', 'recado'],
  ['SocketWriter', 'recado'],
  ['Place', 'recado'],
  ['Budget', 'recado'],
  ['Members', 'recado'],
  ['RelayAdapter', 'recado'],
]);
/** Several libraries have a class of these names; what tells them apart is a field. */
const FIELDS = new Map<string, readonly (readonly [field: string, owner: Owner])[]>([
  [
    'Socket',
    [
      ['nsp', 'socket.io'],
      ['sentCallbackFn', 'engine.io'],
      ['_handle', 'node'],
    ],
  ],
  ['WebSocket', [['supportsBinary', 'engine.io']]],
]);

interface Snapshot {
  readonly snapshot: {
    readonly meta: {
      readonly node_fields: readonly string[];
      readonly edge_fields: readonly string[];
      readonly edge_types: readonly [readonly string[], ...unknown[]];
    };
  };
  readonly nodes: readonly number[];
  readonly edges: readonly number[];
  readonly strings: readonly string[];
}

export async function whoHolds(): Promise<Held> {
  const chunks: Buffer[] = [];
  for await (const chunk of getHeapSnapshot()) chunks.push(chunk as Buffer);
  return attribute(JSON.parse(Buffer.concat(chunks).toString()) as Snapshot);
}

function attribute({ snapshot, nodes, edges, strings }: Snapshot): Held {
  const { node_fields: nodeFields, edge_fields: edgeFields, edge_types: edgeTypes } = snapshot.meta;
  const size = nodeFields.length;
  const width = edgeFields.length;
  const [name, selfSize, edgeCount] = ['name', 'self_size', 'edge_count'].map((f) => nodeFields.indexOf(f));
  const weak = edgeTypes[0].indexOf('weak');
  const property = edgeTypes[0].indexOf('property');
  const firstEdge = new Uint32Array(nodes.length / size + 1);
  for (let n = 0; n * size < nodes.length; n += 1) {
    firstEdge[n + 1] = firstEdge[n]! + nodes[n * size + edgeCount!]! * width;
  }
  const ownerOf = (n: number): Owner | null => {
    const className = strings[nodes[n * size + name!]!]!;
    const fields = FIELDS.get(className);
    if (fields) {
      for (let edge = firstEdge[n]!; edge < firstEdge[n + 1]!; edge += width) {
        if (edges[edge] !== property) continue;
        const found = fields.find(([field]) => field === strings[edges[edge + 1]!]);
        if (found) return found[1];
      }
    }
    return CLASSES.get(className) ?? null;
  };
  // From the root, nearest first: what two hold counts for the one that is reached first.
  const held: Held = { 'socket.io': 0, 'engine.io': 0, ws: 0, node: 0, recado: 0, other: 0 };
  const owners: (Owner | undefined)[] = new Array(nodes.length / size);
  owners[0] = 'other';
  const queue = [0];
  for (const n of queue) {
    held[owners[n]!] += nodes[n * size + selfSize!]!;
    for (let edge = firstEdge[n]!; edge < firstEdge[n + 1]!; edge += width) {
      if (edges[edge] === weak) continue;
      const to = edges[edge + 2]! / size;
      if (owners[to] !== undefined) continue;
      owners[to] = ownerOf(to) ?? owners[n]!;
      queue.push(to);
    }
  }
  return held;
}
