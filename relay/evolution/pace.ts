// Intervals, time limits and sizes of a connection to an instance. Tests set other values.

export interface Pace {
  /** First wait after a lost connection; doubles up to `slowestMs`. */
  retryMs: number;
  slowestMs: number;
  /** Between attempts with a key or a name that the server refused. */
  refusedMs: number;
  /** Between attempts at a namespace that does not exist yet; it appears with the server's first event. */
  namespaceMs: number;
  /** Between catch-ups while connected, since some versions drop events. */
  safetyMs: number;
  /** Between checks that the server still emits events: a new instance of the same name may not. */
  lookMs: number;
  /** Between catch-ups where the server has no websocket. */
  pollMs: number;
  overlapMs: number;
  pageSize: number;
  requestMs: number;
  /** How long after a broken request to send the server's history tells whether the message was sent. */
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
