// SIGTERM sends clients away one after another: all at once they would come back all at once, at the other nodes.

/** A client that can be sent away; it comes back by itself. */
export interface Leaving {
  /** Its requests come over new connections. */
  readonly polls: boolean;
  close(): void;
}

const EVERY_MS = 20;

/**
 * Sends everybody away, evenly over a time, the first at once, those that poll before the others.
 *
 * @param open who is connected, at any moment
 * @param closePort called when nobody polls any more. From then on whoever comes is refused by the system, which a load
 *   balancer notices at once, and sends him elsewhere
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
