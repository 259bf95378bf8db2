import { existsSync } from 'node:fs';
import { isAbsolute, join } from 'node:path';
import { settingsAsMarkdown, settingsAsText } from '../../config/print.ts';
import { type Environment, readSettings } from '../../config/settings.ts';
import { MAX_EVENT_BYTES } from '../../config/table.ts';
import { packageRoot, version } from '../../package.ts';
import { PRODUCTION, problemsOf, SECRET, URL_WITH_PASSWORD } from './problems.ts';

describe('the settings of an empty environment', () => {
  test('are those of a demo on this machine', () => {
    const settings = readSettings({});
    expect(settings).toEqual({
      database: { url: null, dataDir: join(process.cwd(), '.data'), port: 54320 },
      http: {
        host: '127.0.0.1',
        port: 3000,
        basePath: '',
        corsOrigin: [],
        connectionsPerAddress: 1_000,
        connectionsPerAccount: 10_000,
        maxConnections: 50_000,
        trustedProxies: 0,
        drainSeconds: 1,
        operatorToken: null,
      },
      jwt: {
        secret: null,
        previousSecret: null,
        keySetUrl: null,
        issuer: null,
        audience: [],
        accountClaim: 'accountId',
        topicsClaim: null,
        clockTolerance: 5,
        algorithms: ['HS256'],
      },
      roomPrefix: 'orders.account.',
      log: { level: 'info', format: 'auto' },
      relay: {
        processes: 1,
        windowBytes: 64 * 1024 * 1024,
        windowEvents: 100_000,
        clientBufferBytes: 8 * 1024 * 1024,
        safetyReadMs: 1000,
        paceMs: 2,
      },
      stream: { url: null, seconds: 60, bytes: 128 * 1024 ** 2 },
      tracing: { endpoint: null },
      evolution: { worker: 'auto' },
    });
    expect(settings.relay.clientBufferBytes).toBeGreaterThan(MAX_EVENT_BYTES);
  });

  test('are those of variables that are empty or blank, as Compose files pass them', () => {
    const names = [...settingsAsMarkdown().matchAll(/^\| `([A-Z_]+)`/gm)].map((match) => match[1]!);
    for (const blank of ['', '  ']) {
      const env = Object.fromEntries(names.map((name) => [name, blank]));
      expect(readSettings(env)).toEqual(readSettings({}));
    }
  });

  test('cannot be changed, all the way down', () => {
    const settings = readSettings({});
    for (const part of [
      settings,
      settings.http,
      settings.http.corsOrigin,
      settings.jwt,
      settings.jwt.audience,
    ]) {
      expect(Object.isFrozen(part)).toBe(true);
    }
    expect(Object.isFrozen(readSettings({ JWT_AUDIENCE: 'a' }).jwt.audience)).toBe(true);
  });
});

describe('each variable', () => {
  test.each<[Environment, object]>([
    [PRODUCTION, { database: { url: URL_WITH_PASSWORD }, http: { host: '0.0.0.0' } }],
    [{ ...PRODUCTION, HOST: '::1' }, { http: { host: '::1' } }],
    [{ HOST: 'relay.internal' }, { http: { host: 'relay.internal' } }],
    [{ DATA_DIR: '/var/lib/recado' }, { database: { dataDir: '/var/lib/recado' } }],
    [{ EMBEDDED_PORT: '5555' }, { database: { port: 5555 } }],
    [{ PORT: '0' }, { http: { port: 0 } }],
    [{ PORT: ' 8080 ' }, { http: { port: 8080 } }],
    [{ JWT_SECRET: ` ${SECRET}` }, { jwt: { secret: ` ${SECRET}` } }],
    [{ JWT_SECRET: 'é'.repeat(16) }, { jwt: { secret: 'é'.repeat(16) } }],
    [{ JWT_SECRET: SECRET, JWT_ALGORITHMS: 'HS256' }, { jwt: { algorithms: ['HS256'] } }],
    [{ JWT_JWKS_URL: 'https://i.example/k' }, { jwt: { keySetUrl: 'https://i.example/k' } }],
    [
      { JWT_JWKS_URL: 'http://k:80/k', JWT_ALGORITHMS: 'ES256, RS256' },
      { jwt: { algorithms: ['ES256', 'RS256'] } },
    ],
    [{ JWT_ISSUER: 'https://i.example/' }, { jwt: { issuer: 'https://i.example/' } }],
    [{ JWT_AUDIENCE: 'a, https://b/ ,' }, { jwt: { audience: ['a', 'https://b/'] } }],
    [{ JWT_ACCOUNT_CLAIM: 'https://c.example/acc' }, { jwt: { accountClaim: 'https://c.example/acc' } }],
    [{ JWT_TOPICS_CLAIM: 'app_metadata.topics' }, { jwt: { topicsClaim: 'app_metadata.topics' } }],
    [{ JWT_CLOCK_TOLERANCE: '0' }, { jwt: { clockTolerance: 0 } }],
    [{ CORS_ORIGIN: '*' }, { http: { corsOrigin: '*' } }],
    [
      { CORS_ORIGIN: 'https://a.example,http://localhost:5173,capacitor://localhost' },
      { http: { corsOrigin: ['https://a.example', 'http://localhost:5173', 'capacitor://localhost'] } },
    ],
    [{ OPERATOR_TOKEN: SECRET }, { http: { operatorToken: SECRET } }],
    [{ ROOM_PREFIX: 'account:' }, { roomPrefix: 'account:' }],
    [{ LOG_LEVEL: 'DEBUG' }, { log: { level: 'debug' } }],
    [{ LOG_FORMAT: 'pretty' }, { log: { format: 'pretty' } }],
    [{ RELAY_PROCESSES: '4' }, { relay: { processes: 4 } }],
    [{ WINDOW_BYTES: '1gib' }, { relay: { windowBytes: 1024 ** 3 } }],
    [{ WINDOW_BYTES: '2000000' }, { relay: { windowBytes: 2_000_000 } }],
    [{ WINDOW_EVENTS: '500' }, { relay: { windowEvents: 500 } }],
    [{ CLIENT_BUFFER_BYTES: '5 MiB' }, { relay: { clientBufferBytes: 5 * 1024 ** 2 } }],
    [{ SAFETY_READ_MS: '250' }, { relay: { safetyReadMs: 250 } }],
    [{ PACE_MS: '20' }, { relay: { paceMs: 20 } }],
    [{ EVOLUTION_WORKER: 'true' }, { evolution: { worker: 'on' } }],
    [{ EVOLUTION_WORKER: 'Off' }, { evolution: { worker: 'off' } }],
  ])('%j', (env, expected) => {
    expect(readSettings(env)).toMatchObject(expected);
  });

  test.each([
    ['EMBEDDED_PORT', '0', 'from 1 to 65535'],
    ['HOST', 'http://localhost', 'without scheme and port'],
    ['HOST', 'localhost:3000', 'without scheme and port'],
    ['PORT', '65536', 'from 0 to 65535'],
    ['PORT', '-1', 'a whole number'],
    ['PORT', '3e3', 'a whole number'],
    ['BASE_PATH', 'realtime', 'begins with /'],
    ['PORT', '0x10', 'a whole number'],
    ['PORT', '80.5', 'a whole number'],
    ['DRAIN_SECONDS', '601', 'from 0 to 600'],
    ['JWT_JWKS_URL', 'issuer.example/keys', 'http or https'],
    ['JWT_JWKS_URL', 'file:///etc/keys', 'http or https'],
    ['JWT_AUDIENCE', ', ,', 'at least one item'],
    ['JWT_ACCOUNT_CLAIM', 'account id', 'without blanks'],
    ['JWT_ACCOUNT_CLAIM', 'exp', 'not an instant'],
    ['JWT_CLOCK_TOLERANCE', '301', 'from 0 to 300'],
    ['CORS_ORIGIN', 'https://a.example/', 'an origin as browsers send it'],
    ['CORS_ORIGIN', 'https://A.example', 'an origin as browsers send it'],
    ['CORS_ORIGIN', 'https://a.example:443', 'an origin as browsers send it'],
    ['CORS_ORIGIN', 'a.example', 'an origin as browsers send it'],
    ['CORS_ORIGIN', '*,https://a.example', 'either * alone'],
    ['ROOM_PREFIX', 'orders account', 'without blanks'],
    ['LOG_LEVEL', 'loud', 'one of trace, debug'],
    ['LOG_FORMAT', 'xml', 'one of auto, json, pretty'],
    ['RELAY_PROCESSES', '0', 'from 1 to 64'],
    ['WINDOW_BYTES', '64MB', 'in bytes or with KiB, MiB or GiB'],
    ['WINDOW_BYTES', '1KiB', 'from 1 MiB'],
    ['WINDOW_EVENTS', '1', 'from 100'],
    ['CLIENT_BUFFER_BYTES', '4MiB', 'from 4160 KiB'],
    ['SAFETY_READ_MS', '1', 'from 50'],
    ['PACE_MS', '0', 'from 1'],
    ['EVOLUTION_WORKER', 'perhaps', 'one of auto, on, off'],
  ])('%s refuses %j in a sentence', (name, value, expected) => {
    const problems = problemsOf({ [name]: value });
    expect(problems).toHaveLength(1);
    expect(problems[0]).toMatch(/^[A-Z_]+ is .+, but .+\. [A-Z].+\.$/);
    expect(problems[0]).toContain(`${name} is "${value}", but`);
    expect(problems[0]).toContain(expected);
  });

  test('all problems are said at once, a line each', () => {
    const problems = problemsOf({ PORT: 'x', LOG_LEVEL: 'y', JWT_SECRET: 'z', WINDOW_BYTES: '-1' });
    expect(problems.map((problem) => problem.split(' ')[0])).toEqual([
      ...['PORT', 'JWT_SECRET', 'LOG_LEVEL', 'WINDOW_BYTES'],
    ]);
  });
});

describe('how tokens are verified', () => {
  const JWKS = 'https://issuer.example/keys';

  test('must be said when there is a database', () => {
    expect(problemsOf({ DATABASE_URL: URL_WITH_PASSWORD })).toEqual([
      expect.stringContaining('JWT_SECRET and JWT_JWKS_URL are both unset'),
    ]);
  });

  test('must be said once', () => {
    expect(problemsOf({ ...PRODUCTION, JWT_JWKS_URL: JWKS })).toEqual([
      expect.stringContaining('JWT_SECRET and JWT_JWKS_URL are both set'),
    ]);
  });

  test('may be said by two secrets, but not by the second alone', () => {
    const JWT_SECRET_PREVIOUS = ` ${SECRET}`;
    expect(readSettings({ JWT_SECRET: SECRET, JWT_SECRET_PREVIOUS }).jwt).toMatchObject({
      secret: SECRET,
      previousSecret: JWT_SECRET_PREVIOUS,
    });
    expect(problemsOf({ JWT_SECRET_PREVIOUS })).toEqual([
      expect.stringContaining('JWT_SECRET_PREVIOUS is set, but JWT_SECRET is not'),
    ]);
  });

  test('may be said without a database', () => {
    expect(readSettings({ JWT_SECRET: SECRET }).jwt.secret).toBe(SECRET);
    expect(readSettings({ JWT_JWKS_URL: JWKS }).jwt.keySetUrl).toBe(JWKS);
  });

  test('with a key set admits no algorithm that takes a secret', () => {
    const { algorithms } = readSettings({ JWT_JWKS_URL: JWKS }).jwt;
    expect(algorithms).toEqual(expect.arrayContaining(['RS256', 'ES256', 'EdDSA']));
    expect(algorithms.filter((name) => !/^(RS|PS|ES|Ed)/.test(name))).toEqual([]);
    expect(problemsOf({ JWT_JWKS_URL: JWKS, JWT_ALGORITHMS: 'RS256,HS256' })).toEqual([
      expect.stringContaining('JWT_ALGORITHMS names HS256'),
    ]);
    for (const name of ['none', 'HS512', 'rs256']) {
      expect(problemsOf({ JWT_JWKS_URL: JWKS, JWT_ALGORITHMS: name })).toHaveLength(1);
    }
  });

  test('with a secret admits HS256 only', () => {
    for (const JWT_ALGORITHMS of ['RS256', 'HS256,RS256']) {
      expect(problemsOf({ JWT_SECRET: SECRET, JWT_ALGORITHMS })).toEqual([
        expect.stringContaining('only HS256 is accepted'),
      ]);
    }
  });

  test.each([
    ['JWT_SECRET', 'only-thirty-one-bytes-are-in-it', 'it has 31 bytes and at least 32 are expected'],
    [
      'JWT_SECRET_PREVIOUS',
      'only-thirty-one-bytes-are-in-it',
      'it has 31 bytes and at least 32 are expected',
    ],
    ['OPERATOR_TOKEN', 'fifteen-letters', 'it has 15 bytes and at least 16 are expected'],
  ])('%s must be long, and is never shown', (name, value, expected) => {
    const beside = name === 'JWT_SECRET_PREVIOUS' ? { JWT_SECRET: SECRET } : {};
    const problems = problemsOf({ ...beside, [name]: value });
    expect(problems).toEqual([expect.stringContaining(expected)]);
    expect(problems[0]).not.toContain(value);
  });

  test.each([
    ['JWT_JWKS_URL', 'https://me:hunter2@issuer.example/keys'],
    ['CORS_ORIGIN', 'https://me:hunter2@app.example'],
    ['HOST', 'https://me:hunter2@app.example'],
  ])('a password that strayed into %s is not shown either', (name, value) => {
    const problems = problemsOf({ [name]: value });
    expect(problems).toHaveLength(1);
    expect(problems[0]).not.toContain('hunter2');
  });
});

describe('the printed table', () => {
  const names = [...settingsAsMarkdown().matchAll(/^\| `([A-Z_]+)`/gm)].map((match) => match[1]!);

  test('has every variable in both forms, with its help', () => {
    expect(names).toHaveLength(36);
    for (const name of names) expect(settingsAsText()).toContain(`  ${name}  (`);
    expect(settingsAsMarkdown()).toContain('| `PORT` | `3000` | Port to listen on;');
    expect(settingsAsMarkdown().split('\n')).toHaveLength(names.length + 2);
  });

  test('fits a terminal, and cells hold no bars', () => {
    for (const line of settingsAsText()
      .split('\n')
      .filter((text) => text.startsWith('      '))) {
      expect(line.length).toBeLessThanOrEqual(92);
    }
    for (const row of settingsAsMarkdown().split('\n')) expect(row.split('|')).toHaveLength(5);
  });
});

test('the package is found where its migrations and sql are', () => {
  expect(isAbsolute(packageRoot)).toBe(true);
  for (const name of ['package.json', 'migrations', 'sql']) {
    expect(existsSync(join(packageRoot, name))).toBe(true);
  }
  expect(version).toMatch(/^\d+\.\d+\.\d+/);
});
