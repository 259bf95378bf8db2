// Who may open a connection at all, before any token is read: pages of known origins, and not too many from one
// address. A browser sends cookies nowhere here, but a page of a foreign origin should not use a visitor's network
// place either, and websockets know no CORS.
import type { IncomingMessage } from 'node:http';

export interface AdmissionSettings {
  readonly corsOrigin: '*' | readonly string[];
  /** Connections one address may hold. */
  readonly connectionsPerAddress: number;
  /** Proxies before us that append to X-Forwarded-For; 0: the header is not believed. */
  readonly trustedProxies: number;
}

export type Refusal = 'origin_refused' | 'too_many_connections';

export class Admission {
  readonly settings: AdmissionSettings;
  readonly #open = new Map<string, number>();

  constructor(settings: AdmissionSettings) {
    this.settings = settings;
  }

  /** Why a new connection is refused; null: it is not. */
  refuses(request: IncomingMessage): Refusal | null {
    if (!this.#knowsOrigin(request)) return 'origin_refused';
    const open = this.#open.get(this.addressOf(request)) ?? 0;
    return open >= this.settings.connectionsPerAddress ? 'too_many_connections' : null;
  }

  /** Counts a connection until the returned function is called. */
  enter(request: IncomingMessage): () => void {
    const address = this.addressOf(request);
    this.#open.set(address, (this.#open.get(address) ?? 0) + 1);
    let left = false;
    return () => {
      if (left) return;
      left = true;
      const open = (this.#open.get(address) ?? 1) - 1;
      if (open > 0) this.#open.set(address, open);
      else this.#open.delete(address);
    };
  }

  /** The peer, or what the outermost trusted proxy saw. A client can put anything before that. */
  addressOf(request: IncomingMessage): string {
    const peer = request.socket.remoteAddress ?? 'unknown';
    const { trustedProxies } = this.settings;
    if (trustedProxies === 0) return peer;
    const header = request.headers['x-forwarded-for'] ?? '';
    const seen = (Array.isArray(header) ? header.join(',') : header).split(',').map((item) => item.trim());
    return seen.at(-trustedProxies) || peer;
  }

  /** Programs send no Origin; our own page sends the host it was loaded from. */
  #knowsOrigin({ headers }: IncomingMessage): boolean {
    const { origin, host } = headers;
    const { corsOrigin } = this.settings;
    if (origin === undefined || corsOrigin === '*' || corsOrigin.includes(origin)) return true;
    return URL.canParse(origin) && new URL(origin).host === host;
  }
}
