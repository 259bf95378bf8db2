// How often, how long, how much: what a connection to an instance goes by. Tests set other values.

export interface Pace {
  /** First wait after a lost connection; doubles up to `slowest`. */
  retryMs: number;
  slowestMs: number;
  /** Between attempts with a key or a name that the server refused. */
  refusedMs: number;
  /** Between attempts at a namespace that does not exist yet; it appears with the server's first event. */
  namespaceMs: number;
  /** Catch-up while connected, since some versions drop events. */
  safetyMs: number;
  /** Between looks whether the server still emits to us: an instance made anew, or its manager, changes that. */
  lookMs: number;
  /** Catch-up where the server has no websocket. */
  pollMs: number;
  overlapMs: number;
  pageSize: number;
  requestMs: number;
  /** After this the server's history decides whether a message was sent whose request broke off. */
  unsureMs: number;
}

export const PACE: Pace = {
  retryMs: 250,
  slowestMs: 30_000,
  refusedMs: 60_000,
  namespaceMs: 250,
  safetyMs: 600_000,
  lookMs: 30_000,
  pollMs: 15_000,
  overlapMs: 3_600_000,
  pageSize: 1000,
  requestMs: 30_000,
  unsureMs: 60_000,
};
