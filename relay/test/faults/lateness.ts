// Nobody waits: an event that reaches a client more than 1.5 s after its commit was acknowledged is late, unless a
// fault was in the way of that client, or the machine explains it.
import type { Disturbances } from './disturbances.ts';
import { type Ledger, nameOf } from './ledger.ts';
import type { Machine } from './machine.ts';
import type { Figure, Verdict } from './report.ts';
import type { Viewing } from './viewing.ts';
import { RECONNECT_MS } from './world.ts';

/** A safety read comes once a second: that is how long a muted commit may take, and half a second more. */
const LATE_MS = 1_500;

/** A machine that takes more of the time says nothing of lateness. */
const STARVED = 0.25;

/** In a second of rest. Some fifty clients hear thousands, and on a machine that is busy otherwise hundreds. */
const LEAST_TIMED = 100;

/** Of one page for one thing. */
interface Wait {
  readonly what: string;
  readonly from: number;
  readonly to: number;
}

export class Lateness {
  #timed = 0;
  #explained = 0;
  #slowest = 0;
  readonly #ledger: Ledger;
  readonly #disturbances: Disturbances;
  readonly #machine: Machine;

  constructor(ledger: Ledger, disturbances: Disturbances, machine: Machine) {
    this.#ledger = ledger;
    this.#disturbances = disturbances;
    this.#machine = machine;
  }

  compare(viewing: Viewing, verdict: Verdict): void {
    const { kind, seen, heardAt, turns } = viewing;
    // Its token lasts seconds: it is often on its way back from being sent away.
    if (kind === 'impatient') return;
    seen.forEach((key, index) => {
      const transaction = this.#ledger.statement(key)?.transaction;
      if (transaction?.outcome !== 'committed') return;
      const what = `${nameOf(key)} of a "${transaction.kind}"`;
      this.#time(viewing, { what, from: transaction.acknowledgedAt, to: heardAt[index]! }, verdict);
    });
    for (const { askedAt, toldAt, topics } of turns.slice(1)) {
      const what = `that it has other topics (${topics.join() || 'none'})`;
      this.#time(viewing, { what, from: askedAt, to: toldAt }, verdict);
    }
  }

  #time({ name, connections }: Viewing, { what, from, to }: Wait, verdict: Verdict): void {
    if (this.#disturbances.inTheWayOf(name, from, Math.max(to, from + LATE_MS))) return;
    this.#timed += 1;
    const took = to - from;
    if (took <= LATE_MS) {
      this.#slowest = Math.max(this.#slowest, took);
      return;
    }
    const history = connections
      .filter(({ at }) => at > from - RECONNECT_MS && at <= to)
      .map((each) => `${each.what} at ${each.at - from} ms`);
    // Who is on its way back later than it should be has been kept waiting since before.
    const lost = this.#machine.lostBetween(history.length === 0 ? from : from - RECONNECT_MS, to);
    if (took - lost <= LATE_MS || this.#isStarved(from - RECONNECT_MS, to)) {
      this.#explained += 1;
      return;
    }
    verdict.add(
      'late',
      `${name} heard ${what} after ${took} ms; the machine explains ${Math.round(lost)} of them; ${history.join(', ') || 'it stayed connected'}`,
    );
  }

  /** Each process waits for others that wait too: what is measured is then less than what was lost. */
  #isStarved(from: number, to: number): boolean {
    return this.#machine.lostBetween(from, to) > STARVED * (to - from);
  }

  /** A bound that nothing was held against would say nothing. */
  insist(restMs: number, verdict: Verdict): void {
    const least = Math.ceil((restMs / 1_000) * LEAST_TIMED);
    if (this.#timed >= least) return;
    verdict.add('too few timed', `${this.#timed} deliveries; in ${restMs} ms of rest ${least} were expected`);
  }

  get figures(): Figure[] {
    return [
      ['deliveries timed, with no fault in the way', this.#timed],
      ['  slowest that was not late', `${this.#slowest} ms`],
      ['  late, and explained by the machine', this.#explained],
      ['time the machine took from us', `${Math.round(this.#machine.lostMs)} ms`],
    ];
  }
}
