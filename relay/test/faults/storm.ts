// Two thousand clients lose their relay at once, miss events, and come back at once, each with its position.
import { setTimeout as sleep } from 'node:timers/promises';
import { io, type Socket } from 'socket.io-client';
import { signToken } from '../../auth/sign.ts';
import { until } from '../world.ts';
import { SECRET } from './nodes.ts';
import type { Figure, Verdict } from './report.ts';
import type { Stage } from './stage.ts';

const CLIENTS = 2_000;
const ACCOUNTS = 25;
/** More than the relay keeps in memory, so that they are read from the table. */
const MISSED = 200;
const WINDOW_EVENTS = '100';

interface Page {
  readonly account: string;
  readonly socket: Socket;
  /** Numbers of the events it heard; they count up. */
  readonly heard: number[];
  ready: boolean;
  position: string;
}

export async function runStorm(stage: Stage, verdict: Verdict): Promise<Figure[]> {
  const { server } = stage;
  const node = await stage.startNode('e', { WINDOW_EVENTS, CONNECTIONS_PER_ADDRESS: '5000' });
  const accounts = Array.from({ length: ACCOUNTS }, (_, i) => `account ${i}`);
  const pages: Page[] = [];
  for (let i = 0; i < CLIENTS; i += 1) {
    pages.push(await openPage(accounts[i % ACCOUNTS]!, node.port));
    // As they come in real life, and so that the handshakes do not wait for each other until they time out.
    if (i % 100 === 99) await sleep(50);
  }
  await until('every page is live', () => pages.every(({ ready }) => ready), 60_000);
  const say = async (from: number, to: number) => {
    await server.query(
      `select relay.emit(account, 'app.said', to_jsonb(number))
         from generate_series($2::int, $3::int) as number, unnest($1::text[]) as account`,
      [accounts, from, to],
    );
  };
  await say(1, 3);
  const has = (count: number) => pages.every(({ heard }) => heard.length >= count);
  await until('every page heard the first events', () => has(3), 30_000);

  const ranges = new Set(pages.map(({ account, position }) => `${account} ${position}`)).size;
  await node.restart('SIGKILL', () => say(4, 3 + MISSED));
  const began = Date.now();
  await node.ready();
  const total = 3 + MISSED;
  await until('every page caught up', () => has(total), 90_000).catch(() => undefined);
  const caughtUpMs = Date.now() - began;
  const queries = await node.metric('recado_replay_queries_total');
  await sleep(500);

  for (const { account, heard, socket } of pages) {
    const numbers = new Set(heard);
    if (numbers.size < total)
      verdict.add('missing', `a page of ${account} heard ${numbers.size} of ${total} events`);
    if (heard.length > numbers.size)
      verdict.add('twice', `a page of ${account} heard ${heard.length} events, ${total} happened`);
    if (heard.some((number, i) => i > 0 && number < heard[i - 1]!))
      verdict.add('out of order', `at a page of ${account}`);
    if (!socket.recovered) verdict.add('resyncs', `a page of ${account} did not recover`);
  }
  // One page of a replay holds all that was missed. Pages are kept for seconds only, and the storm lasts longer.
  if (queries > 3 * ranges)
    verdict.add('complaints', `${queries} replay queries for ${ranges} distinct ranges`);
  for (const { socket } of pages) socket.disconnect();
  return [
    ['clients that came back', pages.length],
    ['events each had missed', MISSED],
    ['distinct ranges', ranges],
    ['replay queries', queries],
    ['all caught up after', `${caughtUpMs} ms`],
  ];
}

async function openPage(account: string, port: number): Promise<Page> {
  const token = await signToken({ secret: SECRET, accountId: account, expiresIn: 3_600, claim: 'accountId' });
  const socket = io(`http://127.0.0.1:${port}`, {
    auth: { token },
    forceNew: true,
    transports: ['websocket'],
  });
  const page: Page = { account, socket, heard: [], ready: false, position: '' };
  socket.on('relay:ready', () => {
    page.ready = true;
  });
  socket.on('app.said', (number: number, position: string) => {
    page.heard.push(number);
    page.position = position;
  });
  return page;
}
