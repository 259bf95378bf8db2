// Everything that the processes can log: grep a name from the logs and find it here. The WhatsApp worker's lines are in
// observations-of-whatsapp.ts. No line contains secrets: no tokens, keys or payloads.
import type { Level } from 'pino';
import { whatsappObservations } from './observations-of-whatsapp.ts';

export interface Observation {
  readonly level: Level;
  readonly text: (fields: never) => string;
}

export const observations = {
  // processes
  process_starting: {
    level: 'info',
    text: (o: { role: string; version: string }) => `recado ${o.version} starts as ${o.role}`,
  },
  process_stopping: { level: 'info', text: (o: { signal: string }) => `${o.signal} received, closing` },
  process_stopped: { level: 'info', text: () => 'closed' },
  log_level: { level: 'info', text: (o: { lowest: string }) => `the log shows ${o.lowest} and above` },
  process_failed: { level: 'fatal', text: (o: { error: string }) => `cannot continue: ${o.error}` },
  relay_listening: { level: 'info', text: (o: { url: string }) => `clients connect to ${o.url}` },
  hub_listening: { level: 'info', text: (o: { url: string }) => `probes and metrics are at ${o.url}` },
  worker_ended: {
    level: 'error',
    text: (o: { pid: number; how: string }) =>
      `process ${o.pid} ended (${o.how}); another one takes its place`,
  },

  // reading
  wakeup_listening: { level: 'info', text: (o: { channel: string }) => `listening on channel ${o.channel}` },
  wakeup_reconnecting: {
    level: 'warn',
    text: (o: { attempt: number }) =>
      `the LISTEN connection is lost, attempt ${o.attempt}; until it is back, events are read about once a second`,
  },
  wakeup_failed: {
    level: 'warn',
    text: (o: { error: string }) => `the LISTEN connection failed: ${o.error}`,
  },
  wakeup_closed: { level: 'debug', text: () => 'no longer listening' },
  retention_failed: {
    level: 'warn',
    text: (o: { error: string }) => `old events could not be removed, so the table grows: ${o.error}`,
  },
  table_replaced: {
    level: 'warn',
    text: (o: { table: string }) =>
      `another table now has the name ${o.table} and is not captured; as its owner, run select relay.republish(event) for each event that relay.check() names`,
  },
  table_watch_failed: {
    level: 'warn',
    text: (o: { error: string }) => `cannot check for swapped tables: ${o.error}`,
  },
  gate_changed: {
    level: 'info',
    text: (o: { state: string }) =>
      o.state === 'closed'
        ? 'the notify gate is closed: with so many commits, writers no longer notify and reads are paced'
        : `the notify gate is ${o.state}`,
  },
  gate_lost: {
    level: 'warn',
    text: () => 'the session that held the notify gate was terminated; commits notify again',
  },
  notify_queue: {
    level: 'warn',
    text: (o: { used: number; isFilling: boolean }) =>
      o.isFilling
        ? `the notification queue is ${Math.round(o.used * 100)} % full because a listener does not read; writers no longer notify, so their commits do not fail. select * from pg_stat_activity where state like 'idle in transaction%' shows the suspects`
        : `the notification queue is down to ${Math.round(o.used * 100)} %; writers notify again`,
  },
  gate_failed: {
    level: 'warn',
    text: (o: { step: string; error: string }) =>
      `the notify gate does not work (${o.step}): ${o.error}; failures are not logged again until it does`,
  },
  gate_recovered: {
    level: 'info',
    text: (o: { step: string }) => `the notify gate works again (${o.step})`,
  },
  gate_holder_ended: {
    level: 'warn',
    text: (o: { pid: number }) =>
      `terminated backend ${o.pid}: its relay held the notify gate but notified nobody, so it is frozen or unreachable`,
  },
  feed_failed: {
    level: 'error',
    text: (o: { error: string; failures: number }) =>
      `cannot read events (${o.error}), attempt ${o.failures}; no event is lost, clients wait`,
  },
  feed_recovered: {
    level: 'info',
    text: (o: { failures: number }) => `events are read again after ${o.failures} failed attempts`,
  },
  feed_read: {
    level: 'debug',
    text: (o: { events: number; transactions: number }) =>
      `read ${o.events} events of ${o.transactions} transactions`,
  },
  feed_backlog: {
    level: 'info',
    text: (o: { accounts: number }) =>
      `too many events for one read: ${o.accounts} accounts read theirs from the table, all others continue`,
  },
  stream_failed: {
    level: 'warn',
    text: (o: { error: string; failures: number }) =>
      `the stream cannot be read (${o.error}), attempt ${o.failures}; events come from the database meanwhile`,
  },
  stream_recovered: {
    level: 'info',
    text: (o: { failures: number }) => `the stream is read again after ${o.failures} failed attempts`,
  },
  edge_fallback: {
    level: 'warn',
    text: () => 'the stream is silent or its hub is down: events are read from the database until it is back',
  },
  edge_streaming: { level: 'info', text: () => 'events come from the stream again' },
  stream_connection_lost: {
    level: 'warn',
    text: (o: { name: string; error: string }) => `the connection "${o.name}" to Redis broke: ${o.error}`,
  },
  stream_connection_back: {
    level: 'info',
    text: (o: { name: string }) => `the connection "${o.name}" to Redis is back`,
  },
  stream_entry_unreadable: { level: 'error', text: (o: { error: string }) => o.error },
  hub_dropped: {
    level: 'warn',
    text: (o: { entries: number; error: string }) =>
      `${o.entries} entries could not be appended to the stream (${o.error}): edges read the database instead, no event is lost`,
  },
  hub_role: {
    level: 'info',
    text: (o: { role: 'appends' | 'stands by' }) =>
      o.role === 'appends'
        ? 'this hub appends to the stream'
        : 'another hub appends to the stream; this one stands by',
  },
  slots_locked: {
    level: 'warn',
    text: (o: { slots: readonly number[] }) =>
      `another session holds an exclusive lock on ${o.slots.map((slot) => `relay.events_${slot}`).join(', ')}: its events are skipped for now`,
  },
  slots_free: {
    level: 'info',
    text: (o: { slots: readonly number[]; unseen: boolean }) =>
      `${o.slots.map((slot) => `relay.events_${slot}`).join(', ')} can be read again${o.unseen ? ' and has events that were skipped' : ''}`,
  },
  feed_lost: {
    level: 'error',
    text: (o: { reason: string }) =>
      o.reason === 'epoch'
        ? 'the epoch is another one (the database was restored, copied or failed over, or events were skipped): all clients were told to refetch'
        : 'events were removed before this relay read them: all clients were told to refetch',
  },
  capture_failed: {
    level: 'error',
    text: (o: { name: string; table: string; sqlstate: string; unsaid: number }) =>
      `event ${o.name} of ${o.table} could not be captured (SQLSTATE ${o.sqlstate}); its account was told to refetch; ${o.unsaid} more since the last such line; select * from relay.failures shows why`,
  },
  event_unknown: {
    level: 'warn',
    text: (o: { name: string }) =>
      `events named ${JSON.stringify(o.name)} are not in the contract and are not sent; select relay.publish(event => …) adds them`,
  },

  // sockets
  refused: {
    level: 'info',
    text: (o: {
      code: string;
      address: string;
      origin?: string;
      account?: string;
      error?: string;
      unsaid: number;
      remedy: string;
    }) =>
      `refused ${o.address}${o.origin ? ` (page of ${o.origin})` : ''}: ${o.error ?? o.code}; ${o.unsaid} more of ${o.code} since the last such line; ${o.remedy}`,
  },
  client_came: {
    level: 'debug',
    text: (o: { socket: string; account: string; from: string }) =>
      `a client of account ${o.account}, from ${o.from}`,
  },
  client_left: {
    level: 'debug',
    text: (o: { socket: string; account: string }) => `a client of account ${o.account} left`,
  },
  socket_too_slow: {
    level: 'warn',
    text: (o: { socket?: string; account: string | null; address: string; bytes: number }) =>
      `disconnected a client of account ${o.account ?? 'unknown'} at ${o.address} that left ${o.bytes} bytes unread: its network or its page is slow, or events are large; it resumes when it reconnects`,
  },
  socket_failed: {
    level: 'error',
    text: (o: { socket: string; error: string }) =>
      `disconnected a client that could not be written to: ${o.error}`,
  },
  replay_failed: {
    level: 'warn',
    text: (o: { socket: string; error: string }) => `disconnected a client whose replay failed: ${o.error}`,
  },
  jwks_failed: { level: 'warn', text: (o: { error: string }) => o.error },

  // spans
  spans_failed: {
    level: 'warn',
    text: (o: { error: string }) => `could not send spans, or look up their parents: ${o.error}`,
  },
  spans_dropped: {
    level: 'warn',
    text: (o: { count: number }) =>
      `${o.count} events got no span: more were emitted in a second than are kept`,
  },

  // http
  http_failed: {
    level: 'error',
    text: (o: { path: string; error: string }) => `${o.path} failed: ${o.error}`,
  },

  // embedded Postgres
  embedded_creating: {
    level: 'info',
    text: (o: { dataDir: string }) => `creating a database in ${o.dataDir}`,
  },
  embedded_copied: {
    level: 'info',
    text: (o: { from: string; to: string }) =>
      `Postgres cannot run from ${o.from} here, so it runs from ${o.to}`,
  },
  embedded_port_taken: {
    level: 'warn',
    text: (o: { wanted: number; port: number }) =>
      `port ${o.wanted} is in use, so Postgres listens on ${o.port}`,
  },
  embedded_ready: {
    level: 'info',
    text: (o: { dataDir: string; port: number; pid: number }) =>
      `Postgres on 127.0.0.1:${o.port}, data in ${o.dataDir}`,
  },
  embedded_server_said: { level: 'debug', text: (o: { line: string }) => o.line },
  embedded_exited: {
    level: 'error',
    text: (o: { how: string }) => `the embedded Postgres ended by itself (${o.how})`,
  },

  // database
  database_unreachable: {
    level: 'warn',
    text: (o: {
      host: string;
      port: number;
      database: string | undefined;
      error: string;
      attempt: number;
      retryInMs: number;
    }) =>
      `database "${o.database}" on ${o.host}:${o.port} is not reachable (${o.error}), trying again in ${o.retryInMs} ms`,
  },
  database_reachable: {
    level: 'info',
    text: (o: { host: string; port: number; database: string | undefined; ms: number }) =>
      `database "${o.database}" on ${o.host}:${o.port} answers after ${o.ms} ms`,
  },
  database_connection_lost: {
    level: 'warn',
    text: (o: { name: string; error: string }) => `a connection of "${o.name}" broke: ${o.error}`,
  },

  // migrate
  migrate_waiting: {
    level: 'info',
    text: (o: { holder: string }) =>
      `another process is migrating this database, waiting for it: ${o.holder}`,
  },
  migrate_busy: {
    level: 'warn',
    text: (o: { what: string; error: string; attempt: number }) => `${o.what}: ${o.error}; trying again`,
  },
  migrate_blocked: {
    level: 'warn',
    text: (o: { by: string }) => `waiting for a busy table, locked by ${o.by}`,
  },
  migrate_skipped: {
    level: 'warn',
    text: (o: { unit: string; error: string }) => `not installed: ${o.unit}: ${o.error}`,
  },
  migrate_said: { level: 'warn', text: (o: { message: string }) => o.message },
  migrated: {
    level: 'info',
    text: (o: { migrations: number; sql: number }) =>
      `the database is up to date: applied ${o.migrations} migrations, and ${o.sql} files and events of sql/`,
  },

  ...whatsappObservations,
} satisfies Record<string, Observation>;
