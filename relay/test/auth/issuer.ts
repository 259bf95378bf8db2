// An issuer that publishes its keys, over a real port, and a verifier that follows it.
import { EventEmitter, once } from 'node:events';
import { createServer, type Server } from 'node:http';
import { exportJWK, exportSPKI, generateKeyPair, type JWK, type JWTPayload } from 'jose';
import { createVerifier, type VerifierOptions } from '../../auth/token.ts';
import { portOf } from '../../port.ts';
import { NOW, settings, sign, VALID } from './tokens.ts';

/** A token issuer: a key set over HTTP on loopback, which can be taken down, broken and moved to new keys. */
export interface Issuer {
  readonly url: string;
  /** Requests answered so far. */
  requests(): number;
  publish(...keys: JWK[]): void;
  /** Answers with this instead of the key set; null for never. */
  answerWith(status: number, body: string | null): void;
  /** Holds its answers, of the keys published by then, from now on. */
  hold(): { arrived: Promise<unknown>; release(): void };
  down(): Promise<void>;
  up(): Promise<void>;
}

export const running = new Set<Server>();

afterEach(async () => {
  await Promise.all([...running].map(closed));
});

export async function closed(server: Server): Promise<void> {
  running.delete(server);
  await new Promise((resolve) => {
    server.close(resolve);
    server.closeAllConnections();
  });
}

export async function startIssuer(...keys: JWK[]): Promise<Issuer> {
  let requests = 0;
  let answers: { status: number; body: string | null } = { status: 200, body: JSON.stringify({ keys }) };
  const gate = new EventEmitter();
  let held = false;
  const listen = async (port: number) => {
    const server = createServer(async (request, response) => {
      requests += 1;
      const answer = answers;
      if (held) {
        gate.emit('arrived');
        await once(gate, 'released');
      }
      if (request.url === '/elsewhere') return response.end(JSON.stringify({ keys }));
      response.writeHead(answer.status, { connection: 'close', location: '/elsewhere' });
      return answer.body !== null ? response.end(answer.body) : response.flushHeaders();
    });
    running.add(server);
    await new Promise<void>((resolve, reject) => {
      server.once('error', reject).listen(port, '127.0.0.1', resolve);
    });
    return server;
  };
  let server = await listen(0);
  const port = portOf(server);
  return {
    url: `http://127.0.0.1:${port}/jwks.json?key=hidden`,
    requests: () => requests,
    publish: (...published) => {
      answers = { status: 200, body: JSON.stringify({ keys: published }) };
    },
    answerWith: (status, body) => {
      answers = { status, body };
    },
    hold: () => {
      held = true;
      return {
        arrived: once(gate, 'arrived'),
        release: () => {
          held = false;
          gate.emit('released');
        },
      };
    },
    down: () => closed(server),
    up: async () => {
      server = await listen(port);
    },
  };
}

export interface Signer {
  readonly jwk: JWK;
  sign(payload?: JWTPayload): Promise<string>;
  /** Without a kid in the header. */
  signUnnamed(payload?: JWTPayload): Promise<string>;
  readonly pem: string;
}

export async function signer(alg: string, kid: string): Promise<Signer> {
  const { publicKey, privateKey } = await generateKeyPair(alg, { extractable: true });
  return {
    jwk: { ...(await exportJWK(publicKey)), kid, alg, use: 'sig' },
    sign: (payload = VALID) => sign(payload, privateKey, { alg, kid }),
    signUnnamed: (payload = VALID) => sign(payload, privateKey, { alg }),
    pem: await exportSPKI(publicKey),
  };
}

/** A verifier of the issuer's tokens, with a clock that moves when told to. */
export function follow(issuer: Issuer, options: VerifierOptions = {}) {
  let elapsed = 0;
  const faults: string[] = [];
  const { verify } = createVerifier(settings({}, issuer.url), {
    now: () => NOW,
    elapsed: () => elapsed,
    onFault: (fault) => faults.push(fault.message),
    ...options,
  });
  return {
    verify,
    faults,
    pass: (milliseconds: number) => {
      elapsed += milliseconds;
    },
  };
}
