// Counts every refusal, and logs each kind at most once a minute: a line for every refusal would let anybody fill the
// disk.
import type { Log } from '../../log.ts';
import type { Metrics } from '../../metrics.ts';

/** What an operator can do when the refused client is legitimate. */
const REMEDIES: Readonly<Record<string, string>> = {
  origin_refused: 'if that page is yours, add its origin to CORS_ORIGIN',
  too_many_connections:
    'behind a load balancer set TRUSTED_PROXIES, or raise CONNECTIONS_PER_ADDRESS for connections without a token',
  too_many_of_account: 'raise CONNECTIONS_PER_ACCOUNT if the account really has that many clients',
  relay_full: 'start another node, or raise MAX_CONNECTIONS',
  session_unknown:
    'its session ended or is on another node; if this continues, use sticky sessions in the load balancer, or websocket only in the clients; see docs/deploy.md',
  jsonp_refused: 'use a client without JSONP, such as socket.io-client 3 or newer',
  body_refused: 'no Socket.IO client sends such a body; it is probably an attack',
};
const NO_REMEDY = 'the operator need not do anything; the client was told why';

/** Faults of this side, which raise an alert. They count from 0: Prometheus sees no increase in a series that begins later. */
const OURS = ['jwks_unavailable', 'feed_not_ready', 'internal_error'];

const LOG_EVERY_MS = 60_000;

export class Refusals {
  readonly #log: Log;
  readonly #metrics: Metrics;
  readonly #logged = new Map<string, { at: number; suppressed: number }>();

  constructor(log: Log, metrics: Metrics) {
    this.#log = log;
    this.#metrics = metrics;
    for (const code of OURS) metrics.refused.inc({ code }, 0);
  }

  /**
   * @param code from a closed list, since it becomes a metric label
   * @param about the address, and whatever else tells an operator who was refused
   */
  note(code: string, about: { address: string; origin?: string; account?: string; error?: string }): void {
    this.#metrics.refused.inc({ code });
    const now = Date.now();
    const last = this.#logged.get(code);
    if (last && now - last.at < LOG_EVERY_MS) {
      last.suppressed += 1;
      return;
    }
    this.#logged.set(code, { at: now, suppressed: 0 });
    const remedy = REMEDIES[code] ?? NO_REMEDY;
    this.#log.say('refused', { code, ...about, unsaid: last?.suppressed ?? 0, remedy });
  }
}
