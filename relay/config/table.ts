// Every setting, once. The type of the settings is inferred from this table; `recado --help` and the README print it.
import { resolve } from 'node:path';
import { z } from 'zod';
import { LOG_LEVELS } from '../log.ts';
import {
  choice,
  collectorUrl,
  GIB,
  host,
  jwksUrl,
  KIB,
  list,
  listOf,
  MIB,
  onOffAuto,
  origins,
  path,
  postgresUrl,
  redisUrl,
  secret,
  showSize,
  size,
  wholeNumber,
  word,
} from './parsers.ts';
import { setting } from './setting.ts';

/** The largest event, in bytes of its payload's JSON text; a larger one becomes `relay:resync`. */
export const MAX_EVENT_BYTES = 4 * MIB;

/** Bytes an HMAC secret must have: RFC 7518 §3.2 asks for a key at least as long as the hash, 256 bits. */
const MIN_SECRET_BYTES = 32;

const ASYMMETRIC_ALGORITHMS = [
  ...['RS256', 'RS384', 'RS512', 'PS256', 'PS384', 'PS512'],
  ...['ES256', 'ES384', 'ES512', 'EdDSA', 'Ed25519'],
];

const NONE: readonly string[] = [];

export const table = {
  database: {
    /** Null: the embedded Postgres. */
    url: setting('DATABASE_URL', {
      unset: null,
      absent: 'embedded Postgres in DATA_DIR',
      help: 'Address of the watched Postgres: postgres://user:password@host:port/database. A direct connection, not a transaction pooler.',
      schema: postgresUrl,
      secret: true,
      remedy: 'Correct it, or leave it unset to run on an embedded Postgres.',
    }),
    /** Absolute. */
    dataDir: setting('DATA_DIR', {
      default: '.data',
      help: 'Folder of the embedded Postgres and of the generated token secret; used only without DATABASE_URL.',
      schema: z.string().transform((text) => resolve(text)),
    }),
    port: setting('EMBEDDED_PORT', {
      default: '54320',
      help: 'Preferred port of the embedded Postgres; if it is in use, another one is taken.',
      schema: wholeNumber(1, 65_535),
    }),
  },
  http: {
    host: setting('HOST', {
      default: (isSet) => (isSet('DATABASE_URL') ? '0.0.0.0' : '127.0.0.1'),
      absent: '127.0.0.1 without DATABASE_URL, else 0.0.0.0',
      help: 'Address to listen on. The demo, with its generated secret, stays on this machine unless told otherwise.',
      schema: host,
    }),
    port: setting('PORT', {
      default: '3000',
      help: 'Port to listen on; 0 lets the system choose.',
      schema: wholeNumber(0, 65_535),
    }),
    basePath: setting('BASE_PATH', {
      unset: '',
      absent: 'none',
      help: 'Path below which a proxy serves the relay, such as /realtime; the proxy may strip it or not.',
      schema: path,
    }),
    corsOrigin: setting('CORS_ORIGIN', {
      unset: NONE,
      absent: "the relay's own pages only",
      help: 'Comma-separated origins whose pages may connect, or * for all.',
      schema: origins,
    }),
    connectionsPerAddress: setting('CONNECTIONS_PER_ADDRESS', {
      default: '1000',
      help: 'Connections without a verified token that one network address (IPv6: one /64) may hold.',
      schema: wholeNumber(1, 1_000_000),
    }),
    connectionsPerAccount: setting('CONNECTIONS_PER_ACCOUNT', {
      default: '10000',
      help: 'Connections with a verified token that one account may hold, per process.',
      schema: wholeNumber(1, 1_000_000),
    }),
    maxConnections: setting('MAX_CONNECTIONS', {
      default: '50000',
      help: 'Connections in total, per process. The limit of open files must be higher.',
      schema: wholeNumber(1, 1_000_000),
    }),
    trustedProxies: setting('TRUSTED_PROXIES', {
      default: '0',
      help: 'Number of load balancers in front that append to X-Forwarded-For; 0 ignores the header.',
      schema: wholeNumber(0, 10),
    }),
    drainSeconds: setting('DRAIN_SECONDS', {
      default: '1',
      help: 'Seconds over which SIGTERM disconnects the clients, so that they do not all reconnect elsewhere at once; 0 disconnects them at once.',
      schema: wholeNumber(0, 600),
    }),
    operatorToken: setting('OPERATOR_TOKEN', {
      unset: null,
      absent: 'operator endpoints answer nobody; in the demo, only this machine',
      help: 'Bearer token of the operator endpoints (metrics, status, sync, console), at least 16 bytes.',
      schema: secret(16),
      secret: true,
      remedy: 'Make one with "openssl rand -hex 32".',
    }),
  },
  jwt: {
    secret: setting('JWT_SECRET', {
      unset: null,
      absent: 'none',
      help: `Secret of at least ${MIN_SECRET_BYTES} bytes that signs the bearer tokens (HS256). Either this or JWT_JWKS_URL; if neither is set, nor DATABASE_URL, one is generated.`,
      schema: secret(MIN_SECRET_BYTES),
      secret: true,
      verbatim: true,
      remedy: 'Make one with "openssl rand -base64 48" and give it to the token issuer too.',
    }),
    previousSecret: setting('JWT_SECRET_PREVIOUS', {
      unset: null,
      absent: 'none',
      help: `Second secret whose tokens are accepted beside those of JWT_SECRET, while the secret is changed; at least ${MIN_SECRET_BYTES} bytes. Nothing is signed with it.`,
      schema: secret(MIN_SECRET_BYTES),
      secret: true,
      verbatim: true,
      remedy: 'Set it to the secret that JWT_SECRET was until now, or leave it unset.',
    }),
    keySetUrl: setting('JWT_JWKS_URL', {
      unset: null,
      absent: 'none',
      help: "URL of the token issuer's key set (RS, PS, ES and EdDSA signatures). Use https unless the network in between is trusted.",
      schema: jwksUrl,
      remedy: 'Set it to an address such as https://issuer.example/.well-known/jwks.json.',
    }),
    algorithms: setting('JWT_ALGORITHMS', {
      default: (isSet) => (isSet('JWT_JWKS_URL') ? ASYMMETRIC_ALGORITHMS.join(',') : 'HS256'),
      absent: `HS256 with JWT_SECRET, else ${ASYMMETRIC_ALGORITHMS.join(',')}`,
      help: 'Signature algorithms accepted, comma-separated.',
      schema: listOf(['HS256', ...ASYMMETRIC_ALGORITHMS]),
    }),
    /** `iss` must equal this; null accepts any. */
    issuer: setting('JWT_ISSUER', {
      unset: null,
      absent: 'any',
      help: "What the token's iss must equal exactly.",
      schema: z.string(),
    }),
    /** `aud` must name one of these; empty accepts any. */
    audience: setting('JWT_AUDIENCE', {
      unset: NONE,
      absent: 'any',
      help: "Comma-separated; the token's aud must name one of them.",
      schema: list,
    }),
    accountClaim: setting('JWT_ACCOUNT_CLAIM', {
      default: 'accountId',
      help: 'Claim that names the account. If a token has no claim of this name, the name is read as a path with dots: app_metadata.tenant.',
      schema: word(256).refine(
        (name) => !['exp', 'nbf', 'iat'].includes(name),
        'a claim that is not an instant is expected',
      ),
    }),
    /** Null: the claim `topics`, which is ignored if it is not a list. */
    topicsClaim: setting('JWT_TOPICS_CLAIM', {
      unset: null,
      absent: '`topics`, where it is a list',
      help: 'Claim that lists the topics a token hears, as strings or whole numbers; or its path, as with JWT_ACCOUNT_CLAIM. If this is set, a token whose claim is not such a list is refused.',
      schema: word(256),
    }),
    /** Seconds a token stays good after `exp` and is good before `nbf`. */
    clockTolerance: setting('JWT_CLOCK_TOLERANCE', {
      default: '5',
      help: 'Seconds by which the clocks of issuer and relay may differ.',
      schema: wholeNumber(0, 300),
    }),
  },
  roomPrefix: setting('ROOM_PREFIX', {
    default: 'orders.account.',
    help: 'Prefix of the room of an account; the account follows it.',
    schema: word(128),
  }),
  log: {
    level: setting('LOG_LEVEL', {
      default: 'info',
      help: `Lowest level logged: ${LOG_LEVELS.join(', ')}. SIGUSR2 switches to debug and back.`,
      schema: choice(LOG_LEVELS),
    }),
    format: setting('LOG_FORMAT', {
      default: 'auto',
      help: 'json, pretty, or auto: pretty on a terminal, else json.',
      schema: choice(['auto', 'json', 'pretty']),
    }),
  },
  relay: {
    processes: setting('RELAY_PROCESSES', {
      default: '1',
      help: 'Relay processes that share the port.',
      schema: wholeNumber(1, 64),
    }),
    /** Whichever of this and the next is reached first. */
    windowBytes: setting('WINDOW_BYTES', {
      default: '64MiB',
      help: 'Memory per process for recent events, from which reconnecting clients are served.',
      schema: size(MIB, 16 * GIB),
    }),
    windowEvents: setting('WINDOW_EVENTS', {
      default: '100000',
      help: 'Most events in that memory.',
      schema: wholeNumber(100, 10_000_000),
    }),
    clientBufferBytes: setting('CLIENT_BUFFER_BYTES', {
      default: '8MiB',
      help: `Bytes that may wait for one client; beyond that, its transport is closed, and it resumes from its position. More than the largest event, ${showSize(MAX_EVENT_BYTES)}.`,
      // The envelope (event name, position) must fit beside the largest payload, or that event closes its client for ever.
      schema: size(MAX_EVENT_BYTES + 64 * KIB, GIB),
    }),
    safetyReadMs: setting('SAFETY_READ_MS', {
      default: '1000',
      help: 'Milliseconds between the reads that happen even without a notification.',
      schema: wholeNumber(50, 60_000),
    }),
    paceMs: setting('PACE_MS', {
      default: '2',
      help: 'Shortest pause in milliseconds between reads while the notify gate is closed and writers send no NOTIFY.',
      schema: wholeNumber(1, 1_000),
    }),
  },
  stream: {
    /** Null: no stream, every node reads the database. */
    url: setting('STREAM_URL', {
      unset: null,
      absent: 'none; every node reads the database',
      help: 'Address of the Redis (6.2 or newer) or Valkey through which hubs hand events to relays: redis://user:password@host:port/0, or rediss:// for TLS.',
      schema: redisUrl,
      secret: true,
      remedy: 'Correct it, or leave it unset to let every node read the database.',
    }),
    seconds: setting('STREAM_SECONDS', {
      default: '60',
      help: 'Seconds after which a hub removes entries from the stream. A relay that is further behind reads the database.',
      schema: wholeNumber(5, 86_400),
    }),
    bytes: setting('STREAM_BYTES', {
      default: '128MiB',
      help: 'Approximate size of the entries of a hub that stay in the stream.',
      schema: size(MIB, 64 * GIB),
    }),
  },
  tracing: {
    /** Null: no spans. */
    endpoint: setting('OTEL_EXPORTER_OTLP_ENDPOINT', {
      unset: null,
      absent: 'none; no spans are sent',
      help: 'Address of an OpenTelemetry collector (OTLP over HTTP), such as http://localhost:4318: each emitted event becomes a span.',
      schema: collectorUrl,
    }),
  },
  evolution: {
    worker: setting('EVOLUTION_WORKER', {
      default: 'auto',
      help: 'on, off, or auto: `recado start` runs the Evolution worker, `recado relay` does not.',
      schema: onOffAuto,
    }),
  },
};
