// recado trace: what happened to an event, by the database and by every relay that is asked.
import { lookup } from 'node:dns/promises';
import { type Emitted, type EmittedBy, findEvent, MOST_REMEMBERED } from '../delivery/recent-emits.ts';
import { errorText, RecadoError } from '../errors.ts';
import type { Session } from '../outbox/events.ts';

export interface Asked {
  /** Addresses of relays; a name of several addresses stands for all of them. */
  readonly relays: readonly string[];
  readonly operatorToken: string | null;
}

const ANSWER_WITHIN_MS = 5_000;

/**
 * What happened to an event, as lines of text.
 * @throws RecadoError `event_id_invalid`, `event_not_found`, `relay_url_invalid`
 */
export async function traceEvent(
  session: Session,
  id: string,
  { relays, operatorToken }: Asked,
): Promise<string> {
  if (!/^\d{1,18}$/.test(id)) {
    throw new RecadoError(
      'event_id_invalid',
      `Received ${JSON.stringify(id)}, expected the id of an event, a number.`,
    );
  }
  const nodes = (await Promise.all(relays.map(nodesBehind))).flat();
  const found = await findEvent(session, BigInt(id));
  if (!found) {
    throw new RecadoError(
      'event_not_found',
      `There is no event ${id}: its transaction was rolled back or is still open, or it is older than the retention.`,
    );
  }
  const { event, account, xid, known, capturedAt, committedAt, bytes } = found;
  const lines = [
    `event      ${event} of ${account === null ? 'every account' : `account ${account}`}, ${bytes} bytes${known ? '' : '; not in the contract, so not sent'}`,
    `captured   ${capturedAt.toISOString()} in transaction ${xid}`,
    `committed  ${committedAt ? committedAt.toISOString() : 'yes; when is known only with track_commit_timestamp = on'}`,
  ];
  const answers = await Promise.all(nodes.map((node) => askRelay(node, id, operatorToken)));
  return [...lines, ...answers.flat().map((line) => `emitted    ${line}`)].join('\n');
}

/**
 * Where a name has several addresses, as that of a headless service in Kubernetes, a node is behind each. A certificate
 * is for the name, so an https address stays one.
 * @throws RecadoError `relay_url_invalid`
 */
async function nodesBehind(relay: string): Promise<string[]> {
  const url = URL.canParse(relay) ? new URL(relay) : null;
  if (!url?.protocol.startsWith('http')) {
    throw new RecadoError(
      'relay_url_invalid',
      `Received --relay ${JSON.stringify(relay)}, expected the address of a relay, such as http://10.0.0.7:3000.`,
    );
  }
  const base = url.href.replace(/\/$/, '');
  if (url.protocol === 'https:' || url.hostname === 'localhost') return [base];
  const addresses = await lookup(url.hostname.replace(/^\[|\]$/g, ''), { all: true }).catch(() => []);
  // Of one family: a node may have an address of each.
  const alike = addresses.filter(({ family }) => family === addresses[0]!.family);
  if (alike.length < 2) return [base];
  return alike.map(({ address, family }) => {
    url.hostname = family === 6 ? `[${address}]` : address;
    return url.href.replace(/\/$/, '');
  });
}

async function askRelay(relay: string, id: string, operatorToken: string | null): Promise<string[]> {
  const headers: Record<string, string> =
    operatorToken === null ? {} : { authorization: `Bearer ${operatorToken}` };
  try {
    const signal = AbortSignal.timeout(ANSWER_WITHIN_MS);
    const response = await fetch(`${relay}/trace?id=${id}`, { headers, signal });
    const body: Partial<EmittedBy> & { error?: { message: string } } = JSON.parse(await response.text());
    if (body.error) return [`unknown; ${relay} refused to answer: ${body.error.message}`];
    const { silent = 0 } = body;
    // An older relay answers for one process only.
    const emitted = [body.emitted ?? []].flat();
    const lines = emitted.map((each) => `${tell(each)} (${relay}, process ${each.pid})`);
    if (silent > 0) lines.push(`${silent} processes of ${relay} did not answer`);
    else if (lines.length === 0) {
      lines.push(
        `not by ${relay}, as far as it remembers (the last ${MOST_REMEMBERED} events of each process)`,
      );
    }
    return lines;
  } catch (error) {
    return [`unknown; ${relay} cannot be reached: ${errorText(error)}`];
  }
}

function tell({ at, capturedAt, room, sockets }: Emitted): string {
  return `${new Date(at).toISOString()}, ${Math.round(at - capturedAt)} ms after the capture, to room ${room}, which had ${sockets} live sockets`;
}
