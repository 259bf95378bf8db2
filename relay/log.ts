// Everything the processes can say, in one list. A line is an observation with a name: grep the name in the
// logs, find it here. Secrets have no place in a line: no tokens, no keys, no payloads.
import { type Level, type Logger, pino } from 'pino';

interface Observation {
  level: Level;
  text: (fields: never) => string;
}

const observations = {
  // processes
  process_starting: {
    level: 'info',
    text: (o: { role: string; version: string }) => `recado ${o.version} starts as ${o.role}`,
  },
  process_stopping: { level: 'info', text: (o: { signal: string }) => `${o.signal} received, closing` },
  process_stopped: { level: 'info', text: () => 'closed' },
  process_failed: { level: 'fatal', text: (o: { error: string }) => `cannot go on: ${o.error}` },

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
      `the LISTEN connection is lost, attempt ${o.attempt}; until it is back we look about once a second`,
  },
  wakeup_failed: {
    level: 'warn',
    text: (o: { error: string }) => `the LISTEN connection failed: ${o.error}`,
  },
  wakeup_closed: { level: 'debug', text: () => 'no longer listening' },
  retention_failed: {
    level: 'warn',
    text: (o: { error: string }) => `old events could not be emptied, the table grows: ${o.error}`,
  },
  table_replaced: {
    level: 'warn',
    text: (o: { table: string }) =>
      `another table has the name ${o.table} now, and is not captured: as its owner, select relay.republish(event); relay.check() names the events`,
  },
  table_watch_failed: {
    level: 'warn',
    text: (o: { error: string }) => `swapped tables cannot be noticed: ${o.error}`,
  },
  gate_changed: {
    level: 'info',
    text: (o: { state: string }) =>
      o.state === 'closed'
        ? 'the gate is closed: many commits, they no longer notify, reads are paced'
        : `the gate is ${o.state}`,
  },
  gate_lost: { level: 'warn', text: () => 'the session that held the gate was ended; commits notify again' },
  notify_queue: {
    level: 'warn',
    text: (o: { used: number; isFilling: boolean }) =>
      o.isFilling
        ? `the notification queue is ${Math.round(o.used * 100)} % full: a listener does not read; writers no longer notify, so that their commits go on. select * from pg_stat_activity where state like 'idle in transaction%' shows who it may be`
        : `the notification queue is ${Math.round(o.used * 100)} % full again: writers may notify`,
  },
  gate_failed: { level: 'warn', text: (o: { error: string }) => `the gate could not be moved: ${o.error}` },
  gate_holder_ended: {
    level: 'warn',
    text: (o: { pid: number }) =>
      `ended backend ${o.pid}: its relay held the gate and rang for nobody; it is frozen or unreachable`,
  },
  feed_failed: {
    level: 'error',
    text: (o: { error: string; failures: number }) =>
      `cannot read events (${o.error}), attempt ${o.failures}; nothing is lost, clients wait`,
  },
  feed_recovered: {
    level: 'info',
    text: (o: { failures: number }) => `events are read again after ${o.failures} failed attempts`,
  },
  feed_backlog: {
    level: 'info',
    text: (o: { accounts: number }) =>
      `more events than are read at once: ${o.accounts} accounts read theirs from the table, all others go on`,
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
    text: () =>
      'the stream is silent, or its hub is away: events are read from the database until it is back',
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
  stream_entry_unreadable: {
    level: 'error',
    text: (o: { error: string }) => o.error,
  },
  hub_dropped: {
    level: 'warn',
    text: (o: { entries: number; error: string }) =>
      `${o.entries} entries could not be appended to the stream (${o.error}): edges read the database meanwhile, nothing is lost`,
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
      `somebody holds an exclusive lock on ${o.slots.map((slot) => `relay.events_${slot}`).join(', ')}: events are read without it`,
  },
  slots_free: {
    level: 'info',
    text: (o: { slots: readonly number[]; unseen: boolean }) =>
      `${o.slots.map((slot) => `relay.events_${slot}`).join(', ')} can be read again${o.unseen ? ', and has events that nobody was told of: all clients are told to refetch' : ''}`,
  },
  feed_lost: {
    level: 'error',
    text: (o: { reason: string }) =>
      o.reason === 'epoch'
        ? 'this is another database than before (restored, copied or failed over): all clients were told to refetch'
        : 'events were emptied before this relay read them: all clients were told to refetch',
  },
  capture_failed: {
    level: 'error',
    text: (o: { name: string; table: string; sqlstate: string; unsaid: number }) =>
      `an event ${o.name} of ${o.table} could not be captured (SQLSTATE ${o.sqlstate}), its account was told to refetch; ${o.unsaid} more since the last line; select * from relay.failures tells why`,
  },
  event_unknown: {
    level: 'warn',
    text: (o: { name: string }) =>
      `events named ${JSON.stringify(o.name)} are not in the contract and not sent; select relay.publish(event => …) adds them`,
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
      `refused ${o.address}${o.origin ? ` (page of ${o.origin})` : ''}: ${o.error ?? o.code}; ${o.unsaid} more of ${o.code} since the last line; ${o.remedy}`,
  },
  socket_too_slow: {
    level: 'warn',
    text: (o: { socket: string; bytes: number }) =>
      `closed, it left ${o.bytes} bytes unread; it resumes when it comes back`,
  },
  socket_failed: {
    level: 'error',
    text: (o: { socket: string; error: string }) => `closed, could not be written to: ${o.error}`,
  },
  replay_failed: {
    level: 'warn',
    text: (o: { socket: string; error: string }) => `closed, its replay failed: ${o.error}`,
  },

  jwks_failed: { level: 'warn', text: (o: { error: string }) => o.error },

  // http
  http_failed: {
    level: 'error',
    text: (o: { path: string; error: string }) => `${o.path} failed: ${o.error}`,
  },

  // embedded Postgres
  embedded_creating: { level: 'info', text: (o: { dataDir: string }) => `making a database in ${o.dataDir}` },
  embedded_copied: {
    level: 'info',
    text: (o: { from: string; to: string }) =>
      `Postgres cannot run from ${o.from} here, it runs from ${o.to}`,
  },
  embedded_port_taken: {
    level: 'warn',
    text: (o: { wanted: number; port: number }) => `port ${o.wanted} is taken, Postgres listens on ${o.port}`,
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
      `database "${o.database}" on ${o.host}:${o.port} answers, after ${o.ms} ms`,
  },
  database_connection_lost: {
    level: 'warn',
    text: (o: { name: string; error: string }) => `a connection of "${o.name}" broke: ${o.error}`,
  },

  // migrate
  migrate_waiting: {
    level: 'info',
    text: (o: { holder: string }) => `another process migrates this database, waiting for it: ${o.holder}`,
  },
  migrate_busy: {
    level: 'warn',
    text: (o: { what: string; error: string; attempt: number }) => `${o.what}: ${o.error}; trying again`,
  },
  migrate_skipped: {
    level: 'warn',
    text: (o: { unit: string; error: string }) => `not installed: ${o.unit}: ${o.error}`,
  },
  migrate_said: { level: 'warn', text: (o: { message: string }) => o.message },
  migrated: {
    level: 'info',
    text: (o: { migrations: number; sql: number }) =>
      `the database was brought up to date: ${o.migrations} migrations, ${o.sql} files and events of sql/`,
  },

  // evolution worker
  evolution_held: {
    level: 'info',
    text: (o: { instance: string }) => `WhatsApp instance ${o.instance} is ours`,
  },
  evolution_released: {
    level: 'info',
    text: (o: { instance: string }) => `WhatsApp instance ${o.instance} was changed, removed or given up`,
  },
  evolution_status: {
    level: 'info',
    text: (o: { instance: string; status: string; reason: string }) =>
      `WhatsApp instance ${o.instance} is ${o.status}${o.reason === '' ? '' : ` (${o.reason})`}`,
  },
  evolution_caught_up: {
    level: 'info',
    text: (o: { instance: string; created: number; updated: number; messages: number }) =>
      `${o.instance}: caught up, ${o.created} new chats, ${o.updated} changed, ${o.messages} new messages`,
  },
  evolution_catch_up_failed: {
    level: 'warn',
    text: (o: { instance: string; error: string }) => `${o.instance}: the gap could not be read: ${o.error}`,
  },
  evolution_subscribed_again: {
    level: 'warn',
    text: (o: { instance: string }) =>
      `${o.instance}: the server had stopped to emit its events (the instance was made anew, or its settings were changed); subscribed again`,
  },
  evolution_send_failed: {
    level: 'warn',
    text: (o: { instance: string; error: string }) =>
      `${o.instance}: messages wait to be sent, or chats to be marked read: ${o.error}`,
  },
  evolution_overflowed: {
    level: 'warn',
    text: (o: { instance: string }) =>
      `${o.instance}: more came in than could be written; the rest is read over REST`,
  },
  evolution_rejected: {
    level: 'warn',
    text: (o: { instance: string; name: string; reason: string }) =>
      `${o.instance}: an item of ${o.name} was set aside in evolution.rejected: ${o.reason}`,
  },
  evolution_write_failed: {
    level: 'error',
    text: (o: { instance: string; error: string; failures: number }) =>
      `${o.instance}: the database could not be written (${o.error}), attempt ${o.failures}`,
  },
  evolution_turn_failed: {
    level: 'error',
    text: (o: { error: string; failures: number }) =>
      `the worker cannot ask for its instances (${o.error}), attempt ${o.failures}`,
  },
} satisfies Record<string, Observation>;

type Observations = typeof observations;
export type ObservationName = keyof Observations;

export interface Log {
  /** Writes one observation; `fields` appear as JSON properties and in the sentence. */
  say<N extends ObservationName>(name: N, ...fields: Parameters<Observations[N]['text']>): void;
  /** The same log with properties (a socket id, a request id) on every line. */
  with(bindings: Record<string, string | number>): Log;
}

/**
 * @param level lowest level written: trace, debug, info, warn, error, fatal or silent
 * @param pretty human-readable lines (for a terminal) instead of JSON
 */
export function createLog(level: string, pretty: boolean): Log {
  const options = pretty
    ? {
        level,
        transport: {
          target: 'pino-pretty',
          options: { ignore: 'pid,hostname,name', translateTime: 'SYS:HH:MM:ss.l' },
        },
      }
    : { level, base: null };
  return wrap(pino(options));
}

function wrap(logger: Logger): Log {
  return {
    say(name, ...fields) {
      const { level, text } = observations[name] as { level: Level; text: (o: unknown) => string };
      logger[level]({ event: name, ...(fields[0] as object | undefined) }, text(fields[0]));
    },
    with(bindings) {
      return wrap(logger.child(bindings));
    },
  };
}
