// On SIGTERM clients are disconnected one after another. If all left at once, they would all reach the other nodes at
// once.

/** A client that can be disconnected. It reconnects by itself. */
export interface Leaving {
  /** It uses HTTP long-polling, so its requests come over new connections. */
  readonly polls: boolean;
  close(): void;
}

const EVERY_MS = 20;

/**
 * Disconnects all clients, spread evenly over a time. The first one goes at once; polling clients go before the others.
 *
 * @param open the clients that are connected now
 * @param closePort called when no client polls any more. From then on the system refuses new connections, which makes a
 *   load balancer send them elsewhere at once
 */
export async function sendAway(
  open: () => readonly Leaving[],
  withinMs: number,
  closePort: () => void,
): Promise<void> {
  const begun = performance.now();
  const sent = new WeakSet<Leaving>();
  const all = open().length;
  let closed = false;
  for (;;) {
    const left = Math.max(0, 1 - (performance.now() - begun) / withinMs) || 0;
    const here = open();
    if (!closed && !here.some(({ polls }) => polls)) {
      closed = true;
      closePort();
    }
    const staying = here.filter((client) => !sent.has(client));
    staying.sort((a, b) => Number(b.polls) - Number(a.polls));
    for (const client of staying.slice(0, Math.max(0, staying.length - Math.floor(all * left)))) {
      sent.add(client);
      client.close();
    }
    if (left === 0 || staying.length === 0) return;
    await new Promise((resolve) => setTimeout(resolve, EVERY_MS));
  }
}
