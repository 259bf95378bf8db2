// The clients' process: many cheap connections, or one stock client beside the writer whose commits it waits for.
import pg from 'pg';
import { io } from 'socket.io-client';
import { answerParent } from './child.ts';
import { Connections, type Wanted } from './connections.ts';
import { EVENT } from './peers.ts';

export interface Probe {
  readonly port: number;
  readonly auth: Record<string, unknown>;
  readonly databaseUrl: string;
  /** What its application does once the commit has returned. */
  readonly afterwards: string | null;
  /** Doctors of the account that `auth` names. */
  readonly doctors: readonly number[];
  readonly perSecond: number;
  readonly seconds: number;
  /** Connections that commit at the same time. */
  readonly writers: number;
}

export interface Awaited {
  readonly total: number;
  readonly withinMs: number;
}

export interface Probed {
  /** Milliseconds from sending COMMIT to the client's handler. */
  readonly latencies: number[];
  readonly sent: number;
}

const connections = new Connections();

/** Commits on a steady beat, each by a writer that is free; who writes and who listens share a clock. */
async function probe(given: Probe): Promise<Probed> {
  const { port, auth, databaseUrl, afterwards, doctors, perSecond, seconds } = given;
  const sessions = Array.from({ length: given.writers }, () => new pg.Client(databaseUrl));
  await Promise.all(sessions.map((session) => session.connect()));
  const socket = io(`http://127.0.0.1:${port}`, { auth, transports: ['websocket'], reconnection: false });
  await new Promise<void>((resolve, reject) => {
    socket.once('connect', resolve);
    socket.once('connect_error', reject);
  });
  const sentAt = new Map<number, number>();
  const latencies: number[] = [];
  let arrived: () => void = () => {};
  socket.on(EVENT, ({ id }: { id: number }) => {
    const at = sentAt.get(id);
    if (at === undefined) return;
    sentAt.delete(id);
    latencies.push(performance.now() - at);
    arrived();
  });
  const total = perSecond * seconds;
  const began = performance.now();
  let turn = 0;
  let sent = 0;
  const write = async (session: pg.Client) => {
    for (; turn < total; ) {
      const n = turn;
      turn += 1;
      const pause = began + (n * 1000) / perSecond - performance.now();
      if (pause > 0) await new Promise((resolve) => setTimeout(resolve, pause));
      // Under way already: its event would be taken for the next one's.
      const doctor = doctors[n % doctors.length]!;
      if (sentAt.has(doctor)) continue;
      sentAt.set(doctor, Number.NaN);
      await session.query(`begin; update public.doctors set "isBusy" = not "isBusy" where id = ${doctor}`);
      sent += 1;
      sentAt.set(doctor, performance.now());
      await session.query('commit');
      if (afterwards !== null) await session.query(afterwards.replace('"id": 1,', `"id": ${doctor},`));
    }
  };
  try {
    await Promise.all(sessions.map(write));
    const late = new Promise<void>((resolve) => setTimeout(resolve, 3_000));
    const all = new Promise<void>((resolve) => {
      arrived = () => sentAt.size === 0 && resolve();
      arrived();
    });
    await Promise.race([late, all]);
  } finally {
    socket.disconnect();
    await Promise.all(sessions.map((session) => session.end()));
  }
  return { latencies, sent };
}

answerParent({
  open: (wanted: Wanted) => connections.open(wanted),
  reach: ({ total, withinMs }: Awaited) => connections.reach(total, withinMs),
  count: () => ({ events: connections.events, lost: connections.lost }),
  close: () => connections.close(),
  probe,
});
