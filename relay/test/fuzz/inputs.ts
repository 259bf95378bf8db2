// What clients and other servers may send, made of what honest ones send and then spoilt. A seed reproduces it.

import { bearerFrom, createVerifier } from '../../auth/token.ts';
import { readSettings } from '../../config/settings.ts';
import { RecadoError } from '../../errors.ts';
import { openEnvelope, readEnvelope } from '../../evolution/payloads/payloads.ts';
import { formatPosition, parsePosition, parseSnapshot } from '../../outbox/position.ts';
import { Admission, networkOf } from '../../transport/limits/admission.ts';
import { hasMoreThan } from '../../transport/polling.ts';
import { captured } from '../evolution/world.ts';
import { Chance } from '../faults/chance.ts';

const SECRET = 'a secret of the fuzzer, of more than thirty-two bytes';
const TOKEN =
  'eyJhbGciOiJIUzI1NiJ9.eyJhY2NvdW50SWQiOiIxIiwiZXhwIjo5OTk5OTk5OTk5fQ.c2lnbmF0dXJlIHRoYXQgZml0cyBub3RoaW5n';
const POSITION = formatPosition({ epoch: 'abcdefgh', seen: { xmax: 900n, xip: [700n, 701n, 880n] } });
const PARTS = [
  '',
  '\0',
  '\x1e',
  '..',
  ',',
  ':',
  '-1',
  '0',
  '1',
  '99999999999999999999',
  '%00',
  '%',
  '::',
  'é',
  '\ud800',
  '🙂',
  '{',
  '"',
  '__proto__',
  'null',
];
const ENVELOPES = captured('2.3.7');

function spoil(chance: Chance, text: string): string {
  let spoilt = text;
  for (let times = chance.between(0, 4); times > 0; times -= 1) {
    const at = chance.between(0, spoilt.length);
    const length = chance.between(0, 6);
    const part = chance.happens(0.05) ? chance.one(PARTS).repeat(2_000) : chance.one(PARTS);
    spoilt = spoilt.slice(0, at) + part + spoilt.slice(at + length);
  }
  return spoilt;
}

/** Another value in the place of some. */
function spoilValue(chance: Chance, value: unknown, depth = 0): unknown {
  if (chance.happens(0.03)) {
    return chance.one([
      null,
      0,
      -1,
      1e308,
      Number.NaN,
      '',
      '\0',
      [],
      {},
      [[]],
      true,
      { low: 1 },
      'x'.repeat(5_000),
      7n,
    ]);
  }
  if (depth > 12 || typeof value !== 'object' || value === null || Buffer.isBuffer(value))
    return typeof value === 'string' ? spoil(chance, value) : value;
  if (Array.isArray(value)) return value.map((item) => spoilValue(chance, item, depth + 1));
  return Object.fromEntries(
    Object.entries(value).map(([name, item]) => [
      chance.happens(0.02) ? chance.one(PARTS) : name,
      spoilValue(chance, item, depth + 1),
    ]),
  );
}

const { verify } = createVerifier(readSettings({ JWT_SECRET: SECRET }).jwt);
const admission = new Admission({
  corsOrigin: ['https://app.example'],
  connectionsPerAddress: 10,
  connectionsPerAccount: 10,
  maxConnections: 10,
  trustedProxies: 1,
});

type Kind = (chance: Chance) => unknown;

/** Each must return, or throw one of our own errors; what it must not do is said by its own check. */
export const KINDS: Readonly<Record<string, Kind>> = {
  position(chance) {
    const given = spoil(chance, POSITION);
    const read = parsePosition(given);
    // What was read means what is written again.
    if (read && parsePosition(formatPosition(read)) === null) throw new Error('it is not read again');
  },
  snapshot: (chance) => parseSnapshot(spoil(chance, '100:900:100,200,300')),
  async token(chance) {
    const text = spoil(chance, TOKEN);
    await verify(text).then(
      () => {
        throw new Error('a forged token was accepted');
      },
      (error: unknown) => {
        if (!(error instanceof RecadoError)) throw error;
      },
    );
  },
  handshake: (chance) =>
    bearerFrom({
      auth: spoilValue(chance, { token: TOKEN }) as Record<string, unknown>,
      headers: { authorization: spoil(chance, `Bearer ${TOKEN}`) },
    }),
  packets: (chance) => hasMoreThan(512, spoil(chance, Array(chance.between(1, 600)).fill('40').join('\x1e'))),
  address(chance) {
    const given = spoil(chance, chance.one(['10.0.0.1', '::ffff:1.2.3.4', '2001:db8::1', 'fe80::1%eth0']));
    if (networkOf(given).length > 100) throw new Error('it is counted under an endless name');
    const headers = { 'x-forwarded-for': given, origin: spoil(chance, 'https://app.example'), host: given };
    admission.refuses({ headers, socket: {} } as never);
  },
  envelope(chance) {
    const { event, envelope } = chance.one(ENVELOPES);
    const opened = openEnvelope(spoil(chance, event), spoilValue(chance, envelope));
    JSON.stringify(readEnvelope(opened, { own: opened.sender, skip: new Set() }));
  },
};

/** What was found, or null; and how long the slowest input took. */
export async function fuzz(
  seed: number,
  inputs: number,
): Promise<{ wrong: string | null; slowestMs: number; slowest: string }> {
  const names = Object.keys(KINDS);
  let slowestMs = 0;
  let slowest = '';
  for (let n = 0; n < inputs; n += 1) {
    const name = names[n % names.length]!;
    const began = performance.now();
    try {
      await KINDS[name]!(new Chance(seed, `${name} ${n}`));
    } catch (error) {
      if (!(error instanceof RecadoError)) {
        return { wrong: `${name} ${n}: ${(error as Error).stack}`, slowestMs, slowest };
      }
    }
    const took = performance.now() - began;
    if (took > slowestMs) [slowestMs, slowest] = [took, `${name} ${n}`];
  }
  return { wrong: null, slowestMs, slowest };
}
