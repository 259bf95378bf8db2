// Errors a reviewer would fear, each as the edits that put it into a built relay.
import type { Edit } from './copy.ts';

export interface PlantedError {
  readonly name: string;
  /** The run that must notice. */
  readonly run: readonly string[];
  /** Violations of which at least one must be found. */
  readonly noticedAs: readonly string[];
  readonly edits: readonly Edit[];
}

export const ERRORS: readonly PlantedError[] = [
  {
    // After a crash, transaction ids come again that the feed and the clients have called seen. Or the feed finds the
    // database behind itself, takes it for a restored one, and begins a new epoch with an empty outbox.
    name: 'positions not cut',
    run: [
      '--scenario',
      'faults',
      '--only',
      'postgres crashed in silence',
      '--seconds',
      '20',
      '--faults',
      '8',
    ],
    noticedAs: ['missing', 'resyncs', 'lost by the database'],
    edits: [
      {
        file: 'outbox/position.js',
        find: 'if (xmax > snapshot.xmax)\n        return snapshot;',
        put: 'return { ...snapshot, ...attested };',
      },
    ],
  },
  {
    // What is committed meanwhile comes before what was missed.
    name: 'join before replay',
    run: ['--scenario', 'faults', '--only', 'client', '--seconds', '30', '--faults', '30'],
    noticedAs: ['twice', 'out of order'],
    edits: [
      {
        file: 'delivery/catch-up/catch-up.js',
        find: "let source = 'window';",
        put: "let source = 'window';\n        live.join(subscriber);",
      },
    ],
  },
  {
    // Ids are given out before the commit, so a late commit has a small one.
    name: 'id > cursor',
    run: ['--scenario', 'faults', '--only', 'burst', '--seconds', '15', '--faults', '3'],
    noticedAs: ['missing'],
    edits: [
      {
        file: 'feed/outbox-reader.js',
        find: 'let page = await this.#readAround(session);',
        put: `const after = this.cursor ?? (await readLastId(session));
        let page = await readPage(session, { seen: NOTHING, bound: null, after }, this.#options.page);
            this.cursor = page.events.at(-1)?.id ?? after;`,
      },
      {
        file: 'feed/outbox-reader.js',
        find: 'export class OutboxReader {',
        put: `import { readPage } from '../outbox/pages.js';
async function readLastId(session) {
    const { rows } = await session.query('select coalesce(max(id), 0)::text as id from relay.events');
    return BigInt(rows[0].id);
}
export class OutboxReader {`,
      },
    ],
  },
  {
    // As Socket.IO's own recovery does it: the packets after the offset, before the token is verified.
    name: 'missed packets returned',
    run: ['--scenario', 'faults', '--only', 'client', '--seconds', '20', '--faults', '20'],
    noticedAs: ['twice'],
    edits: [
      {
        file: 'transport/adapter.js',
        find: 'return { sid: newSessionId(), pid, rooms: [], data: {}, missedPackets: [] };',
        put: `const session = sessions.get(pid);
        const index = session?.packets.findIndex(([, , position]) => position === _position) ?? -1;
        const missedPackets = index < 0 ? [] : session.packets.slice(index + 1);
        return { sid: newSessionId(), pid, rooms: [], data: {}, missedPackets };`,
      },
      {
        file: 'transport/adapter.js',
        find: 'export class RelayAdapter extends Adapter {',
        put: `const sessions = new Map();
const packetsOf = new Map();
export function remember(account, deliveries) {
    const packets = packetsOf.get(account) ?? [];
    for (const { event, payload, position } of deliveries) packets.push([event, JSON.parse(payload), position]);
    packetsOf.set(account, packets);
}
export function rememberSession(pid, account) {
    if (!packetsOf.has(account)) packetsOf.set(account, []);
    sessions.set(pid, { packets: packetsOf.get(account) });
}
export class RelayAdapter extends Adapter {`,
      },
      {
        file: 'delivery/live/live-accounts.js',
        find: 'const encoded = new Encoded(deliveries);',
        put: `const encoded = new Encoded(deliveries);
        for (const { identity } of to) { remember(identity.accountId, deliveries); break; }`,
      },
      {
        file: 'delivery/live/live-accounts.js',
        find: "import { Encoded } from '../encode.js';",
        put: "import { remember } from '../../transport/adapter.js';\nimport { Encoded } from '../encode.js';",
      },
      {
        file: 'transport/socketio.js',
        find: 'void this.#options.subscribers.add(socket.data.subscriber);',
        put: 'rememberSession(socket.pid, socket.data.subscriber.identity.accountId);\n        void this.#options.subscribers.add(socket.data.subscriber);',
      },
      {
        file: 'transport/socketio.js',
        find: 'import { beginSession,',
        put: 'import { beginSession, rememberSession,',
      },
    ],
  },
  {
    // What is replayed is for everybody of the account then.
    name: 'audience not looked at',
    run: ['--scenario', 'faults', '--only', 'client links cut', '--seconds', '15', '--faults', '5'],
    noticedAs: ['leaked'],
    edits: [
      {
        file: 'delivery/hears.js',
        find: 'if (audience !== null && !sharesTopic(identity, audience))',
        put: 'if (false)',
      },
    ],
  },
  {
    // The client believes that it has heard all that its new topics ask for.
    name: 'other topics without a word',
    run: ['--scenario', 'faults', '--only', 'topics changed', '--seconds', '12', '--faults', '6'],
    noticedAs: ['leaked', 'missing'],
    edits: [
      {
        file: 'delivery/subscribers.js',
        find: 'if (hearsTheSame(before, identity))',
        put: 'if (true)',
      },
    ],
  },
  {
    // A token that is good keeps all its topics.
    name: 'topic not taken away',
    run: ['--scenario', 'faults', '--only', 'topic taken away', '--seconds', '12', '--faults', '3'],
    noticedAs: ['late', 'complaints'],
    edits: [
      {
        file: 'auth/revocations.js',
        find: 'narrow(identity) {',
        put: 'narrow(identity) {\n        if (identity) return identity;',
      },
    ],
  },
  {
    // A client that comes back after the database went back in time is sent the other history without a word.
    name: 'position of another history honoured',
    run: [
      '--scenario',
      'faults',
      '--only',
      'storage snapshot restored|client links cut',
      '--seconds',
      '20',
      '--faults',
      '10',
    ],
    noticedAs: ['complaints'],
    edits: [
      {
        file: 'delivery/subscribers.js',
        find: "return { position: null, resync: 'epoch' };",
        put: 'return { position: { ...position, epoch: feed.epoch }, resync: null };',
      },
    ],
  },
  {
    // An event that names an account twice arrives twice.
    name: 'an event for each account named',
    run: ['--scenario', 'faults', '--only', 'burst', '--seconds', '10', '--faults', '2'],
    noticedAs: ['twice'],
    edits: [
      {
        file: 'sql/relay/03_audience.sql',
        find: 'array(select distinct a from unnest((%s)::text[]) as a where a is not null order by a)',
        put: 'array(select a from unnest((%s)::text[]) as a where a is not null order by a)',
      },
    ],
  },
  {
    // An edge goes on over what was trimmed, flushed or lost.
    name: 'gap in the stream not seen',
    run: ['--scenario', 'hub', '--only', 'trimmed|flushed|replica', '--seconds', '20', '--faults', '8'],
    noticedAs: ['missing'],
    edits: [{ file: 'stream/rule.js', find: 'if (!covers(seen, entry.seen))', put: 'if (false)' }],
  },
  {
    // `recovered` is true on the client, and an app that follows Socket.IO's documentation skips its refetch.
    name: 'same pid on a resync',
    run: ['--scenario', 'faults', '--seconds', '5', '--faults', '2', '--only', 'client links cut'],
    noticedAs: ['complaints'],
    edits: [
      {
        file: 'transport/socketio.js',
        find: 'if (!socket.recovered || origin.resync !== null)',
        put: 'if (!socket.recovered)',
      },
    ],
  },
  {
    // A writer that saw the gate closed commits when it is open again, and notifies nobody.
    name: 'no pace after reopening',
    run: ['--scenario', 'wakeups'],
    noticedAs: ['late'],
    edits: [
      {
        file: 'feed/notify-gate.js',
        find: 'performance.now() < this.#silentUntil',
        put: 'false',
      },
    ],
  },
  {
    // A large transaction is not handed on with the others: its accounts are to read it from the table.
    name: 'large transaction not replayed',
    run: ['--scenario', 'faults', '--only', 'large transaction', '--seconds', '15', '--faults', '4'],
    noticedAs: ['missing'],
    edits: [
      {
        file: 'delivery/live/live-accounts.js',
        find: 'if (isElsewhere(account))',
        put: 'if (false)',
      },
    ],
  },
  {
    // Clients hear of commits that a crash undoes.
    name: 'asynchronous commit not raised',
    run: [
      '--scenario',
      'faults',
      '--only',
      'postgres crashed after asynchronous commits',
      '--seconds',
      '20',
      '--faults',
      '6',
    ],
    noticedAs: ['lost by the database', 'uncommitted'],
    edits: [
      {
        file: 'sql/relay/01_events.sql',
        find: "set_config('synchronous_commit', 'local', true) is null then null",
        put: 'false then null',
      },
    ],
  },
];

/** @throws Error when there is none of that name */
export function errorNamed(name: string): PlantedError {
  const found = ERRORS.find((error) => error.name === name);
  if (found) return found;
  const names = ERRORS.map((error) => `"${error.name}"`).join(', ');
  throw new Error(`There is no error named "${name}" to plant; there are ${names}.`);
}
