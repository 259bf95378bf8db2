// A page in a browser: the stock socket.io-client, with a token in `auth` and handlers that write down what they hear.
// None of them knows of positions, except for those that keep one across a reload of the page, as the README says.
import { setTimeout as sleep } from 'node:timers/promises';
import { signToken } from '../../auth/sign.ts';
import { until } from '../world.ts';
import { TOPICS } from './audiences.ts';
import { type EventKey, eventKey } from './ledger.ts';
import { PATIENCE_MS, SECRET } from './nodes.ts';
import { type Connection, openConnection } from './page-connection.ts';
import { loadList } from './page-list.ts';
import { PagePosition } from './page-position.ts';
import type { Figures, Kind, Refetch, Viewing } from './viewing.ts';

interface Payload {
  row: number;
  stamp: number;
  filler?: string;
  size?: number;
}

/**
 * Long enough for a half-open link to be noticed, and for the next one, on a machine that is busy with other things: a
 * change that is never told is found just as well.
 */
const TURN_MS = 180_000;

/** The position of a forgetful page is up to so many events old. */
const FORGOTTEN = 40;

const EVENTS = [
  'items.changed',
  'stock.changed',
  'pages.changed',
  'notes.created',
  'visits.changed',
  'shared.changed',
  'app.said',
  'app.whispered',
  'app.flickered',
  'app.finished',
];

export interface PageOptions {
  readonly account: string;
  readonly kind: Kind;
  /** Where it finds its relay. */
  readonly port: number;
  /** Where its lists come from. */
  readonly databaseUrl: string;
  readonly name?: string;
}

export class Page {
  readonly name: string;
  readonly account: string;
  readonly kind: Kind;
  readonly viewings: Viewing[] = [];
  readonly figures: Figures = {
    connects: 0,
    recovered: 0,
    changes: 0,
    resyncs: new Map(),
    contradictions: [],
    complaints: [],
  };
  readonly #port: number;
  readonly #databaseUrl: string;
  #socket: Connection | null = null;
  #viewing!: Viewing;
  readonly #marks = new Set<EventKey>();
  readonly #position: PagePosition;
  #ready = false;
  /** Of its next token. */
  #topics: readonly string[];
  /** Of the token that its connection was made with. */
  #given: readonly string[];
  #askedAt = 0;
  #changing: Promise<void> = Promise.resolve();
  #reloading: Promise<void> = Promise.resolve();

  constructor({ account, kind, port, databaseUrl, name = `${kind} of ${account}` }: PageOptions) {
    this.account = account;
    this.kind = kind;
    this.name = name;
    this.#port = port;
    this.#databaseUrl = databaseUrl;
    this.#position = new PagePosition(kind === 'forgetful' ? FORGOTTEN : 0);
    this.#topics = TOPICS[kind];
    this.#given = this.#topics;
  }

  /** Opens the page. Resolves when it is live. */
  async open(): Promise<void> {
    this.#view(new Set());
    await this.#connect(undefined);
    await until(`${this.name} is live`, () => this.#ready, PATIENCE_MS);
  }

  /** Whether it heard this app.finished. */
  hasHeard(mark: EventKey): boolean {
    return this.#marks.has(mark);
  }

  /** How many events the page has heard. */
  get seenCount(): number {
    return this.#viewing.seen.length;
  }

  /** Closes the page and opens it again, in the way of its kind. One reload after the other. */
  async reload(): Promise<void> {
    this.#reloading = this.#reloading.then(() => this.#reload());
    await this.#reloading;
  }

  /** Takes other topics, with a fresh token on the same connection. Resolves when the page hears by them. */
  async takeTopics(topics: readonly string[]): Promise<void> {
    await this.#inTurn(async () => {
      if (topics.join() === this.#topics.join()) return;
      this.#expect(topics);
      this.#askedAt = Date.now();
      this.#refresh();
      await this.#turned();
    });
  }

  /** Loses its first topic. @param takeAway by a row; the page's later tokens do not name it any more */
  async loseTopic(takeAway: (topic: string) => Promise<void>): Promise<void> {
    await this.#inTurn(async () => {
      const [lost, ...left] = this.#topics;
      if (lost === undefined) return;
      this.#expect(left);
      await takeAway(lost);
      this.#askedAt = Date.now();
      await this.#turned();
      // The row may be undone where the database goes back in time.
      this.#refresh();
      // A token of the second in which the topic was taken away does not have it either.
      await sleep(1_100);
    });
  }

  /** Called with the mark of each app.finished. */
  onMark: (mark: EventKey) => void = () => {};

  async close(): Promise<void> {
    this.#socket?.disconnect();
  }

  async #reload(): Promise<void> {
    this.#socket?.disconnect();
    if (this.kind === 'loader') {
      this.#viewing.closedAt = Date.now();
      const { position, known } = await loadList(this.#databaseUrl, this.account);
      this.#view(known, position);
      await this.#connect(position);
      return;
    }
    const kept = this.#position.comeBack();
    if (!kept) return;
    this.#viewing.seen.length = kept.seen;
    this.#viewing.heardAt.length = kept.seen;
    await this.#connect(kept.position);
  }

  async #inTurn(change: () => Promise<void>): Promise<void> {
    const turn = this.#changing.then(change);
    this.#changing = turn.catch(() => undefined);
    await turn;
  }

  #expect(topics: readonly string[]): void {
    this.#topics = topics;
    this.figures.changes += 1;
  }

  /** What cannot be sent now need not be: the next connection comes with a fresh token. */
  #refresh(): void {
    const socket = this.#socket;
    if (!socket?.connected) return;
    void this.#token(3_600).then((token) => socket.emit('auth:refresh', token));
  }

  async #turned(): Promise<void> {
    const told = () => this.#viewing.turns.at(-1)!.topics === this.#topics;
    const isTold = () =>
      until(`${this.name} hears by its new topics`, told, TURN_MS).then(Boolean, () => false);
    const { refetches } = this.#viewing;
    const before = refetches.length;
    if (await isTold()) return;
    // Where the database went back in time, the row that took the topic away may be undone.
    if (refetches.slice(before).some(({ reason }) => reason === 'epoch')) {
      this.#refresh();
      if (await isTold()) return;
    }
    this.figures.complaints.push('was not told in three minutes that its topics have changed');
  }

  /** Called where the relay says so, and at each connection, whose token decides. */
  #hearBy(topics: readonly string[]): void {
    const { turns, seen } = this.#viewing;
    this.#given = topics;
    if (turns.at(-1)!.topics === topics) return;
    turns.push({ after: seen.length, topics, askedAt: this.#askedAt, toldAt: Date.now() });
  }

  #view(known: ReadonlySet<EventKey>, position?: string): void {
    const { name, account, kind } = this;
    const now = Date.now();
    this.#viewing = {
      name,
      account,
      kind,
      known,
      seen: [],
      heardAt: [],
      refetches: [],
      turns: [{ after: 0, topics: this.#topics, askedAt: now, toldAt: now }],
      connections: [],
      closedAt: Number.POSITIVE_INFINITY,
    };
    this.viewings.push(this.#viewing);
    this.#position.begin(position);
  }

  async #connect(position: string | undefined): Promise<void> {
    const lasts = this.kind === 'impatient' ? 8 : 3_600;
    this.#socket = await openConnection({
      kind: this.kind,
      port: this.#port,
      position,
      token: () => this.#token(lasts),
      renewed: async () => {
        const topics = this.#topics;
        const fresh = await this.#token(lasts);
        this.#given = topics;
        return fresh;
      },
    });
    this.#listen(this.#socket);
  }

  #listen(socket: Connection): void {
    const { figures } = this;
    let heardSinceConnect = 0;
    let hasPosition = false;
    let cameWithPosition = false;
    const note = (what: string) => void this.#viewing.connections.push({ at: Date.now(), what });
    note('opened');
    socket.on('connect', () => {
      note('connected');
      figures.connects += 1;
      heardSinceConnect = 0;
      cameWithPosition = hasPosition;
      if (socket.recovered) figures.recovered += 1;
      this.#hearBy(this.#given);
      if (this.#given !== this.#topics) this.#refresh();
    });
    socket.on('connect_error', (error: Error & { data?: { code?: string } }) => {
      note(error.message);
      // A stock client comes back from every error but those a middleware gives.
      if (!socket.active)
        figures.complaints.push(`was refused for good: ${error.data?.code ?? error.message}`);
    });
    socket.on('disconnect', (reason: string) => {
      note(reason);
      if (reason === 'io server disconnect') figures.complaints.push('was told not to come back');
    });
    for (const event of EVENTS) {
      socket.on(event, (payload: Payload) => {
        heardSinceConnect += 1;
        const key = eventKey(payload.row, payload.stamp);
        this.#viewing.seen.push(key);
        this.#viewing.heardAt.push(Date.now());
        if (event === 'app.finished') {
          this.#marks.add(key);
          this.onMark(key);
        }
        if ((payload.filler?.length ?? 0) !== (payload.size ?? 0)) {
          figures.complaints.push(
            `got a payload that is not whole: ${JSON.stringify(payload).slice(0, 200)}`,
          );
        }
      });
    }
    socket.on('relay:ready', () => {
      this.#ready = true;
    });
    socket.on('relay:resync', ({ reason }: { reason: string }, position: string) => {
      figures.resyncs.set(reason, (figures.resyncs.get(reason) ?? 0) + 1);
      void this.#refetch(reason);
      this.#position.startAnew(position, this.#viewing.seen.length);
      const isOfTurn = reason === 'topics' && this.#given !== this.#topics;
      if (reason === 'topics') this.#hearBy(this.#topics);
      if (socket.recovered && heardSinceConnect === 0 && !isOfTurn) {
        figures.contradictions.push(reason);
      }
    });
    // It is called before the handler, in the same tick: what is kept counts the event that is about to be handled.
    socket.onAny((event: string, ...parts: unknown[]) => {
      const last = parts.at(-1);
      const seen = this.#viewing.seen.length + (EVENTS.includes(event) ? 1 : 0);
      if (typeof last === 'string' && event !== 'relay:resync' && this.#position.follow(last, seen)) {
        figures.complaints.push(`got ${event} of another history before it was told of it`);
      }
      // A stream has no session, and is told each time where it is.
      if (event === 'relay:ready' && cameWithPosition && this.kind !== 'stream') {
        figures.complaints.push('came back with a position, and was greeted as if it had none');
      }
      hasPosition ||= typeof last === 'string';
    });
  }

  async #refetch(reason: string): Promise<void> {
    const { seen, refetches } = this.#viewing;
    const refetch: Refetch = { reason, ageMs: this.#position.ageMs, after: seen.length, list: null };
    refetches.push(refetch);
    refetch.list = (await loadList(this.#databaseUrl, this.account)).known;
  }

  async #token(expiresIn: number): Promise<string> {
    return signToken({
      secret: SECRET,
      accountId: this.account,
      expiresIn,
      claim: 'accountId',
      subject: this.kind,
      topics: this.#topics,
      issuer: null,
    });
  }
}
