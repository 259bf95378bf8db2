// Who looks, and the connection: load, then subscribe. What comes is told as events of this object:
//
//   state     the connection changed; see `state`
//   clinic    the lists of the demonstration were loaded, from which events go on
//   stored    the last events of before, the oldest first, and the topics that are heard: {events, topics}; from which
//             `arrival` goes on; with {problem} if they could not be read
//   arrival   an event: {event, payload, position, recovered, at}
import { io } from './socket.io.js';

const TOKEN_IN_TAB = 'recado-token';
/** Tokens of the demonstration are good for an hour. */
const RENEW_AFTER_MS = 50 * 60_000;
const LOAD_AGAIN_MS = 2_000;

/** The relay said no, for a reason. */
export class Refusal extends Error {
  constructor({ code, message }) {
    super(message);
    this.code = code;
  }
}

export class Session extends EventTarget {
  demo = false;
  /** Of the demonstration: {id, name, people: [{id, name, token}]}. */
  accounts = [];
  account = null;
  /** Who of the account looks, in the demonstration. */
  person = null;
  /** signed-out, connecting, recovering, live, away (comes back by itself), cut (by the switch), refused */
  state = 'connecting';
  /** Code of the refusal. */
  refusal = null;
  #socket = null;
  #token = null;
  #tokensAt = 0;
  #turn = 0;
  #signedIn = 0;
  #openedAt = 0;

  /** @param {{account: string | null, person: string | null}} wanted of the demonstration */
  async begin(wanted) {
    const { demo } = await (await fetch('console/session')).json();
    this.demo = demo;
    if (demo) await this.#renewTokens();
    // With a key set there are no tokens to hand out.
    if (this.#people.some(({ token }) => token === null)) this.demo = false;
    if (this.demo) {
      const account = this.accounts.find(({ id }) => id === wanted.account) ?? this.accounts[0];
      const person = account.people.find(({ id }) => id === wanted.person) ?? account.people[0];
      await this.open(account.id, person.id);
      return;
    }
    const kept = sessionStorage.getItem(TOKEN_IN_TAB);
    if (kept === null) this.#become('signed-out');
    else this.signIn(kept);
  }

  /** What one hears is not shown to the other. */
  get viewer() {
    return `${this.account} ${this.person} ${this.#signedIn}`;
  }

  get #people() {
    return this.accounts.flatMap(({ people }) => people);
  }

  /** Outside the demonstration: a token somebody brought. */
  signIn(token) {
    this.#token = token.trim();
    this.#signedIn += 1;
    sessionStorage.setItem(TOKEN_IN_TAB, this.#token);
    this.#become('connecting');
    this.#connectAfterStored();
  }

  /** The connection will report what is wrong with the token or the relay. */
  async #connectAfterStored() {
    this.#turn += 1;
    const turn = this.#turn;
    const stored = await this.ask('GET', 'console/events').catch(({ code }) => ({
      ...{ account: null, events: [], topics: [], position: null },
      problem: code ?? 'o Recado não responde',
    }));
    if (turn !== this.#turn) return;
    this.account = stored.account;
    this.#tell('stored', stored);
    this.#connect(stored.position);
  }

  /** Outside the demonstration: reads what is stored again, and goes on from there. */
  readAgain() {
    this.signIn(this.#token);
  }

  signOut() {
    sessionStorage.removeItem(TOKEN_IN_TAB);
    this.#token = null;
    this.#turn += 1;
    this.#socket?.disconnect();
    this.#become('signed-out');
  }

  /** An account of the demonstration: its lists, then what happens from their position on. */
  async open(account, person = this.person) {
    Object.assign(this, { account, person });
    this.#socket?.disconnect();
    this.#become('connecting');
    this.#turn += 1;
    this.#openedAt = Date.now();
    const turn = this.#turn;
    try {
      const clinic = await this.ask('GET', 'demo/clinic');
      // The account may have been changed since.
      if (turn !== this.#turn) return;
      this.#tell('clinic', clinic);
      this.#tell('stored', { events: clinic.stored, topics: clinic.topics });
      this.#connect(clinic.position);
    } catch {
      if (turn !== this.#turn) return;
      this.#become('away');
      this.#openAgain();
    }
  }

  /** @throws {Refusal} */
  async ask(method, path, body) {
    return (await this.#request(method, path, body)).json();
  }

  /** @throws {Refusal} */
  async askText(path) {
    return (await this.#request('GET', path)).text();
  }

  async #request(method, path, body) {
    const token = await this.#currentToken();
    const response = await fetch(path, {
      method,
      headers: {
        ...(token !== null && { authorization: `Bearer ${token}` }),
        ...(body !== undefined && { 'content-type': 'application/json' }),
      },
      ...(body !== undefined && { body: JSON.stringify(body) }),
    });
    if (response.ok) return response;
    throw new Refusal((await response.json()).error);
  }

  /** As if the network went away. */
  cut() {
    if (this.state !== 'live') return;
    this.#socket.io.reconnection(false);
    this.#become('cut');
    this.#socket.io.engine.close();
  }

  restore() {
    this.#become('connecting');
    this.#socket.io.reconnection(true);
    this.#socket.connect();
  }

  #connect(position) {
    this.#socket?.disconnect();
    this.refusal = null;
    this.#become('connecting');
    const socket = io({
      // The page may be below a path of another site.
      path: new URL('socket.io/', document.baseURI).pathname,
      transports: ['websocket', 'polling'],
      tryAllTransports: true,
      multiplex: false,
      // A function, so that a connection that comes back after an hour brings a new token.
      auth: (send) => {
        this.#currentToken().then((token) => send({ token, ...(position !== null && { position }) }));
      },
    });
    this.#socket = socket;
    socket.on('connect', () => this.#become('recovering'));
    socket.on('disconnect', () => {
      if (socket === this.#socket && this.state !== 'cut') this.#become('away');
    });
    socket.on('connect_error', ({ data }) => {
      if (socket !== this.#socket) return;
      this.refusal = data?.code ?? null;
      if (this.refusal === null) this.#become('away');
      else if (this.demo)
        this.#renewTokens().then(
          () => this.#openAgain(),
          () => this.#openAgain(),
        );
      else this.#become('refused');
    });
    socket.onAny((event, payload, position) => {
      if (socket === this.#socket) this.#hear(event, payload, position);
    });
  }

  #hear(event, payload, position) {
    if (event === 'relay:position' || event === 'relay:ready') {
      this.#tell('position', { position: event === 'relay:position' ? payload : position });
      if (event === 'relay:ready' && !this.demo) this.account = payload.accountId;
      // Until here it was what had been missed.
      this.#become('live');
      return;
    }
    const recovered = this.state === 'recovering';
    this.#tell('arrival', { event, payload, position, recovered, at: Date.now() });
    // The history of a new number is not told message by message.
    if (event === 'chat:synced' && this.demo) this.#openAgain();
    if (event !== 'relay:resync') return;
    if (this.demo) this.#openAgain();
    else this.#become('live');
  }

  /** Refetches; a relay that asks for it again and again is not pressed. */
  #openAgain() {
    const turn = this.#turn;
    const wait = Math.max(0, this.#openedAt + LOAD_AGAIN_MS - Date.now());
    setTimeout(() => turn === this.#turn && this.open(this.account), wait);
  }

  async #currentToken() {
    if (!this.demo) return this.#token;
    // The old one may still do when the relay does not answer.
    if (Date.now() - this.#tokensAt > RENEW_AFTER_MS) await this.#renewTokens().catch(() => undefined);
    const people = this.accounts.find(({ id }) => id === this.account)?.people ?? [];
    return people.find(({ id }) => id === this.person)?.token ?? null;
  }

  async #renewTokens() {
    const response = await fetch('demo/tokens', {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: '{}',
    });
    if (!response.ok) throw new Refusal((await response.json()).error);
    this.accounts = (await response.json()).accounts;
    this.#tokensAt = Date.now();
  }

  #become(state) {
    this.state = state;
    this.#tell('state', state);
  }

  #tell(name, detail) {
    this.dispatchEvent(new CustomEvent(name, { detail }));
  }
}
