// Decides who may open a connection: pages of known origins, a limited number per address until a token is verified,
// and a limited number per account afterwards. Origins are checked here because CORS does not cover websockets: without
// the check any page could reach a relay in its visitor's network.
import type { IncomingMessage } from 'node:http';
import { isIPv6 } from 'node:net';
import { ACCOUNT_BUDGET, Budget } from './budget.ts';

export interface AdmissionSettings {
  readonly corsOrigin: '*' | readonly string[];
  /** Connections without a verified token that one address may hold. */
  readonly connectionsPerAddress: number;
  /** Connections with a verified token that one account may hold. */
  readonly connectionsPerAccount: number;
  /** Connections in total. */
  readonly maxConnections: number;
  /** How many proxies in front of the relay append to X-Forwarded-For; 0 means the header is ignored. */
  readonly trustedProxies: number;
}

export type Refusal = 'relay_closing' | 'origin_refused' | 'too_many_connections' | 'relay_full';

interface Account {
  connections: number;
  readonly budget: Budget;
}

/** The open connections, in total, by address and by account. */
class Counts {
  total = 0;
  readonly addresses = new Map<string, number>();
  readonly accounts = new Map<string, Account>();

  leaveAddress(address: string): void {
    const open = (this.addresses.get(address) ?? 1) - 1;
    if (open > 0) this.addresses.set(address, open);
    else this.addresses.delete(address);
  }

  leaveAccount(name: string): void {
    const account = this.accounts.get(name);
    if (!account) return;
    account.connections -= 1;
    if (account.connections === 0) this.accounts.delete(name);
  }
}

/** One counted connection. It counts for its address at first, and for its account once a token is verified. */
export class Place {
  readonly address: string;
  readonly #counts: Counts;
  readonly #most: number;
  #account: string | null = null;
  #left = false;

  constructor(counts: Counts, address: string, connectionsPerAccount: number) {
    this.#counts = counts;
    this.#most = connectionsPerAccount;
    this.address = address;
    counts.total += 1;
    counts.addresses.set(address, (counts.addresses.get(address) ?? 0) + 1);
  }

  /** null until a token is verified. */
  get account(): string | null {
    return this.#account;
  }

  /**
   * Counts the connection for the account from now on.
   * @returns the account's budget; null if the account has too many connections, and then nothing changes
   */
  moveTo(name: string): Budget | null {
    const account = this.#counts.accounts.get(name) ?? { connections: 0, budget: new Budget(ACCOUNT_BUDGET) };
    if (this.#left || this.#account === name) return account.budget;
    if (account.connections >= this.#most) return null;
    this.#leavePlace();
    this.#account = name;
    account.connections += 1;
    this.#counts.accounts.set(name, account);
    return account.budget;
  }

  /** May be called again. */
  leave(): void {
    if (this.#left) return;
    this.#left = true;
    this.#counts.total -= 1;
    this.#leavePlace();
  }

  #leavePlace(): void {
    if (this.#account === null) this.#counts.leaveAddress(this.address);
    else this.#counts.leaveAccount(this.#account);
  }
}

export class Admission {
  readonly settings: AdmissionSettings;
  readonly #counts = new Counts();
  #closed = false;

  constructor(settings: AdmissionSettings) {
    this.settings = settings;
  }

  /** Why a new connection is refused; null if it is admitted. */
  refuses(request: IncomingMessage): Refusal | null {
    if (this.#closed) return 'relay_closing';
    if (!this.knowsOrigin(request)) return 'origin_refused';
    if (this.#counts.total >= this.settings.maxConnections) return 'relay_full';
    const open = this.#counts.addresses.get(this.addressOf(request)) ?? 0;
    return open >= this.settings.connectionsPerAddress ? 'too_many_connections' : null;
  }

  /** Refuses every new connection from now on. */
  close(): void {
    this.#closed = true;
  }

  get closed(): boolean {
    return this.#closed;
  }

  /** Counts a connection until it leaves. */
  enter(request: IncomingMessage): Place {
    return new Place(this.#counts, this.addressOf(request), this.settings.connectionsPerAccount);
  }

  /** The peer, or the address that the outermost trusted proxy saw. A client can forge any entry before that one. */
  addressOf(request: IncomingMessage): string {
    const peer = networkOf(request.socket.remoteAddress);
    const { trustedProxies } = this.settings;
    if (trustedProxies === 0) return peer;
    const header = request.headers['x-forwarded-for'] ?? '';
    const seen = (Array.isArray(header) ? header.join(',') : header).split(',').map((item) => item.trim());
    const given = seen.at(-trustedProxies);
    return given ? networkOf(given) : peer;
  }

  /** Programs send no Origin. The console's own page sends the host that it was loaded from. */
  knowsOrigin({ headers }: IncomingMessage): boolean {
    const { origin, host } = headers;
    const { corsOrigin } = this.settings;
    if (origin === undefined || corsOrigin === '*' || corsOrigin.includes(origin)) return true;
    return URL.canParse(origin) && new URL(origin).host === host;
  }
}

/** What one customer of a provider has: an IPv4 address, or with IPv6 a /64, the smallest usual block. */
export function networkOf(address: string | undefined): string {
  if (address === undefined) return 'unknown';
  const mapped = /^::ffff:(\d{1,3}(?:\.\d{1,3}){3})$/i.exec(address);
  if (mapped) return mapped[1]!;
  if (!isIPv6(address)) return address.slice(0, 64);
  const [head = '', tail] = (address.split('%', 1)[0] ?? '').split('::');
  const before = head === '' ? [] : head.split(':');
  const after = tail === undefined || tail === '' ? [] : tail.split(':');
  const groups =
    tail === undefined ? before : [...before, ...Array(8 - before.length - after.length).fill('0'), ...after];
  const network = groups.slice(0, 4).map((group) => Number.parseInt(group, 16).toString(16));
  return `${network.join(':')}::/64`;
}
