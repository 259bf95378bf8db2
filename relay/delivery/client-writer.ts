// Writes to a client and enforces its byte budget: what a client does not read takes up memory that others need.
import { errorText } from '../errors.ts';
import type { Log } from '../log.ts';
import type { Metrics } from '../metrics.ts';
import { type Delivery, RESYNC_REASONS, type ResyncReason } from './deliveries.ts';
import type { Encoded } from './encode.ts';
import type { SlowClients } from './slow-clients.ts';
import type { Subscriber } from './subscriber.ts';

export interface ClientWriterOptions {
  /** Bytes that may wait for one client. */
  bufferBytes: number;
  slowClients: SlowClients;
  log: Log;
  metrics: Metrics;
}

export class ClientWriter {
  readonly #options: ClientWriterOptions;

  constructor(options: ClientWriterOptions) {
    this.#options = options;
    // Prometheus sees no increase in a series that begins with its first count.
    for (const reason of RESYNC_REASONS) options.metrics.resyncs.inc({ reason }, 0);
  }

  /** Writes, and disconnects a client that is over its byte budget. */
  write({ connection, identity }: Subscriber, encoded: Encoded): void {
    const { bufferBytes, slowClients, log } = this.#options;
    try {
      const bytes = connection.write(encoded);
      if (bytes <= bufferBytes) return;
      const { id: socket, address } = connection;
      slowClients.note({ socket, account: identity.accountId, address, bytes });
    } catch (error) {
      // Nothing is lost: the client reconnects with a position from before the failed write.
      log.say('socket_failed', { socket: connection.id, error: errorText(error) });
    }
    connection.close(true);
  }

  countResyncs(deliveries: readonly Delivery[]): void {
    for (const { event, payload } of deliveries) {
      if (event !== 'relay:resync') continue;
      const { reason }: { reason: ResyncReason } = JSON.parse(payload);
      this.#options.metrics.resyncs.inc({ reason });
    }
  }
}
