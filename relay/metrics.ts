// The Prometheus registry: every metric, in one list.
import { Counter, Gauge, Histogram, Registry } from 'prom-client';

export type Metrics = ReturnType<typeof createMetrics>;

/** Each relay has its own registry, so that several can run in one process, as in tests. */
export function createMetrics() {
  const registry = new Registry();
  const registers = [registry];
  const counter = (name: string, help: string) => new Counter({ name, help, registers });
  const gauge = (name: string, help: string) => new Gauge({ name, help, registers });
  const gaugeOfInstance = (name: string, help: string) =>
    new Gauge({ name, help, labelNames: ['instance'] as const, aggregator: 'max', registers });
  return {
    registry,
    // reading
    eventsRead: counter('recado_events_read_total', 'Events read from the outbox.'),
    backlogs: counter(
      'recado_backlogs_total',
      'Times that more events became visible together than fit into one read.',
    ),
    unknownEvents: counter('recado_events_unknown_total', 'Events read that are not in the contract.'),
    feedFailures: counter('recado_feed_failures_total', 'Times the feed lost its database.'),
    wakeups: counter('recado_wakeups_total', 'Notifications received.'),
    listenFailures: counter('recado_listen_failures_total', 'Times the LISTEN connection was lost.'),
    slotsEmptied: counter('recado_slots_emptied_total', 'Partitions of relay.events emptied by this node.'),
    gateClosed: gauge('recado_gate_closed', '1 while this node keeps the notify gate closed.'),
    feedReady: new Gauge({
      name: 'recado_feed_ready',
      help: '1 while events can be read.',
      aggregator: 'min',
      registers,
    }),
    listening: new Gauge({
      name: 'recado_listening',
      help: '1 while LISTEN is in effect.',
      aggregator: 'min',
      registers,
    }),
    streaming: new Gauge({
      name: 'recado_edge_streaming',
      help: '1 while events come from the stream, 0 while this edge reads the database instead.',
      aggregator: 'min',
      registers,
    }),
    edgeReads: new Counter({
      name: 'recado_edge_reads_total',
      help: 'Times an edge read the database because the stream did not suffice, by reason.',
      labelNames: ['reason'] as const,
      registers,
    }),
    entriesAppended: counter(
      'recado_hub_entries_appended_total',
      'Entries that this hub appended to the stream.',
    ),
    bytesAppended: counter('recado_hub_bytes_appended_total', 'Bytes of these entries.'),
    entriesDropped: counter(
      'recado_hub_entries_dropped_total',
      'Entries dropped because Redis was down for too long; edges read the database instead.',
    ),
    hubAppends: gauge('recado_hub_appends', '1 while this hub appends, 0 while it stands by for another.'),
    notifyQueue: new Gauge({
      name: 'recado_notification_queue_ratio',
      help: 'How full the notification queue of the cluster is, 0 to 1. When it is full every NOTIFY fails.',
      aggregator: 'max',
      registers,
    }),
    oldestTransaction: new Gauge({
      name: 'recado_oldest_transaction_seconds',
      help: 'Age of the oldest open transaction that writes, in this database.',
      aggregator: 'max',
      registers,
    }),
    outboxBytes: new Gauge({
      name: 'recado_outbox_bytes',
      help: 'Size of relay.events with its indexes.',
      aggregator: 'max',
      registers,
    }),
    slowestReader: new Gauge({
      name: 'recado_slowest_reader_seconds',
      help: 'Seconds since the slowest node of this database last read events; every node reads about once a second.',
      aggregator: 'max',
      registers,
    }),
    captureFailures: new Gauge({
      name: 'recado_capture_failures',
      help: 'Captures that failed in the last hour, except for events that were published again since.',
      aggregator: 'max',
      registers,
    }),
    contractProblems: new Gauge({
      name: 'recado_contract_problems',
      help: 'Problems of the contract now: rows of relay.check(), read at most once a minute.',
      aggregator: 'max',
      registers,
    }),
    overdueSlots: new Gauge({
      name: 'recado_slots_overdue',
      help: 'Partitions of relay.events that should have been emptied, read at most once a minute.',
      aggregator: 'max',
      registers,
    }),
    diskFull: new Gauge({
      name: 'recado_disk_full',
      help: '1 while Postgres cannot write a megabyte, read at most once a minute.',
      aggregator: 'max',
      registers,
    }),
    retentionFailures: counter('recado_retention_failures_total', 'Failed attempts to empty old partitions.'),
    // sending
    eventsEmitted: counter(
      'recado_events_emitted_total',
      'Events emitted to a room with at least one socket.',
    ),
    deliveries: counter('recado_deliveries_total', 'Events written to a socket.'),
    commitToEmit: new Histogram({
      name: 'recado_capture_to_emit_seconds',
      help: "From the capture of an event (database's clock) to its emit (relay's clock).",
      buckets: [0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10],
      registers,
    }),
    // sockets
    sockets: gauge('recado_sockets', 'Sockets that are live or catching up.'),
    refused: new Counter({
      name: 'recado_handshakes_refused_total',
      help: 'Handshakes refused, by code.',
      labelNames: ['code'] as const,
      registers,
    }),
    replays: new Counter({
      name: 'recado_replays_total',
      help: 'Clients that returned with a position, by where their events came from.',
      labelNames: ['source'] as const,
      registers,
    }),
    replayQueries: counter('recado_replay_queries_total', 'Pages of a replay read from the table.'),
    resyncs: new Counter({
      name: 'recado_resyncs_total',
      help: 'relay:resync sent to a socket or a room, by reason.',
      labelNames: ['reason'] as const,
      registers,
    }),
    // WhatsApp
    evolutionConnected: gaugeOfInstance(
      'recado_evolution_connected',
      '1 while a worker is connected to the instance and has caught up.',
    ),
    evolutionParked: gaugeOfInstance(
      'recado_evolution_parked_updates',
      'Updates that wait for their message, by instance.',
    ),
    evolutionRejected: gaugeOfInstance(
      'recado_evolution_rejected_envelopes',
      'Envelopes set aside in evolution.rejected, by instance.',
    ),
    slowConsumers: counter('recado_slow_consumers_closed_total', 'Sockets closed because they did not read.'),
  };
}

/** Metrics that only a process that reads the database can count. */
export const OF_THE_READER = [
  'recado_backlogs_total',
  'recado_wakeups_total',
  'recado_listen_failures_total',
  'recado_listening',
  'recado_slots_emptied_total',
  'recado_gate_closed',
  'recado_notification_queue_ratio',
  'recado_oldest_transaction_seconds',
  'recado_outbox_bytes',
  'recado_capture_failures',
  'recado_contract_problems',
  'recado_slots_overdue',
  'recado_disk_full',
  'recado_retention_failures_total',
  'recado_evolution_connected',
  'recado_evolution_parked_updates',
  'recado_evolution_rejected_envelopes',
];

/** Metrics that the first of several processes counts for all of them. */
export const OF_ALL_PROCESSES = ['recado_edge_reads_total'];

/** Metrics that only a process that takes another one's entries can count. */
export const OF_AN_EDGE = ['recado_edge_streaming', ...OF_ALL_PROCESSES];

/** Removes metrics that this process cannot count: a zero could raise an alarm. */
export function leaveOut({ registry }: Metrics, names: readonly string[]): void {
  for (const name of names) registry.removeSingleMetric(name);
}

/** These metrics in the text format of Prometheus. */
export async function textOf({ registry }: Metrics, names: readonly string[]): Promise<string> {
  const texts = await Promise.all(names.map((name) => registry.getSingleMetricAsString(name)));
  return texts.join('\n\n');
}
