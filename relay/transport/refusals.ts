// What is refused is counted each time, and said once for each kind and minute: a line for each refusal would let
// anybody fill the disk.
import type { Log } from '../log.ts';
import type { Metrics } from '../metrics.ts';

/** What an operator may do about a refusal that should not have been one. */
const REMEDIES: Readonly<Record<string, string>> = {
  origin_refused: 'if that page is yours, add its origin to CORS_ORIGIN',
  too_many_connections:
    'behind a load balancer set TRUSTED_PROXIES, or raise CONNECTIONS_PER_ADDRESS for connections without a token',
  too_many_of_account: 'raise CONNECTIONS_PER_ACCOUNT, if the account has so many clients',
  relay_full: 'start another node, or raise MAX_CONNECTIONS',
  session_unknown:
    'its session ended, or is on another node: where this goes on, let the load balancer keep the requests of a session together, or have clients use websocket alone; see docs/deploy.md',
  jsonp_refused: 'use a client without JSONP; every socket.io-client since 3 is one',
  body_refused: 'no client of Socket.IO sends that; it is somebody who tries',
};
const NO_REMEDY = 'nothing is to be done here; the client was told why';

const AGAIN_AFTER_MS = 60_000;

export class Refusals {
  readonly #log: Log;
  readonly #metrics: Metrics;
  readonly #said = new Map<string, { at: number; more: number }>();

  constructor(log: Log, metrics: Metrics) {
    this.#log = log;
    this.#metrics = metrics;
  }

  /**
   * @param code of a closed list: it is a label of a metric
   * @param about the address it came from, and whatever else tells an operator who it was
   */
  note(code: string, about: { address: string; origin?: string; account?: string; error?: string }): void {
    this.#metrics.refused.inc({ code });
    const now = Date.now();
    const said = this.#said.get(code);
    if (said && now - said.at < AGAIN_AFTER_MS) {
      said.more += 1;
      return;
    }
    this.#said.set(code, { at: now, more: 0 });
    const remedy = REMEDIES[code] ?? NO_REMEDY;
    this.#log.say('refused', { code, ...about, unsaid: said?.more ?? 0, remedy });
  }
}
