// Ports for processes of tests.
import { once } from 'node:events';
import { createServer } from 'node:net';

/** Below the range from which Linux takes the ports of `listen(0)` and of outgoing connections. */
const FIRST = 20_000;
/** For each worker of jest. */
const COUNT = 1_000;

const first = FIRST + COUNT * Number(process.env.JEST_WORKER_ID ?? 0);
let next = Math.floor(Math.random() * COUNT);

/** A port on which nobody listens. Nobody else takes it before the test's process listens there. */
export async function deadPort(): Promise<number> {
  for (;;) {
    // Other calls come before this one's answer.
    next = (next + 1) % COUNT;
    const port = first + next;
    if (await isFree(port)) return port;
  }
}

async function isFree(port: number): Promise<boolean> {
  const server = createServer().listen(port, '127.0.0.1');
  try {
    await once(server, 'listening');
  } catch {
    return false;
  }
  server.close();
  await once(server, 'close');
  return true;
}
