import type { Socket } from 'node:net';
import type { RawData, WebSocket } from 'ws';
import { DomainError, type Principal } from '#kernel';
import { InvalidTokenError, type TokenVerifier } from '#platform';
import type { LiveFeed } from '../application/live-feed.js';
import type { StreamReplay } from '../application/stream-replay.js';
import { Subscription } from '../application/subscription.js';
import { NO_FILTER, reachOf, type StreamFilter } from '../domain/stream-filter.js';
import type { StreamPosition } from '../domain/stream-position.js';
import type { LiveAudit } from './live-audit.js';
import {
  parseClientMessage,
  UnreadableResume,
  wishOf,
  type ClientMessage,
  type Wish,
} from './live-message.js';
import { LiveSocket, TRY_AGAIN_LATER } from './live-socket.js';
import { MessageAllowance } from './message-allowance.js';
import { seatOf, type LiveRoom } from './live-room.js';

const AUTHENTICATE_WITHIN_MS = 5_000;
/** The contract's own close code: no token, a bad one, or one that has expired. */
const UNAUTHENTICATED = 4401;
const FORBIDDEN = 4403;
/** A close code of our own, after HTTP's 429: too many connections with this token, or too much sent on this connection. */
const TOO_MANY = 4429;
/** setTimeout counts in a signed 32-bit integer. */
const LONGEST_TIMER_MS = 2_147_483_647;
/**
 * So long the stream is kept back from a client that has just been let in: what it goes on from (`since`) it says in its
 * first message, and must not have been told of what comes after.
 */
const FIRST_WORD_WITHIN_MS = 500;
/** Messages a client may have waiting to be read; one that sends more is not listening to the answers. */
const MAX_WAITING = 100;

/** One WebSocket connection: who it is, what it wants, and what it is told. */
export class LiveSession {
  private readonly outlet: LiveSocket;
  private identity: Principal | undefined;
  private wanted: StreamFilter = NO_FILTER;
  /** Undefined: it is told nothing. */
  private subscription: Subscription | undefined;
  private alive = true;
  private timer: NodeJS.Timeout | undefined;
  private waiting = 0;
  private readonly allowance = new MessageAllowance();
  private query = new URLSearchParams();
  private seat: string | undefined;
  /** Messages are taken one after the other, also when one has to wait for a key server. */
  private turn: Promise<void> = Promise.resolve();

  /**
   * @param connection what the WebSocket runs on.
   * @param compresses whether large messages are to be sent compressed.
   */
  constructor(
    private readonly socket: WebSocket,
    connection: Socket,
    private readonly feed: LiveFeed,
    private readonly replay: StreamReplay,
    private readonly verifier: TokenVerifier,
    private readonly audit: LiveAudit,
    maxBuffer: number,
    compresses: boolean,
    private readonly room: LiveRoom,
  ) {
    this.outlet = new LiveSocket(socket, connection, maxBuffer, compresses, () => {
      this.unsubscribe();
      feed.counts.dropped += 1;
    });
  }

  /**
   * Begins the conversation.
   * @param token from the handshake, if it carried one.
   * @param query the handshake's; it may say what is wanted, as a subscription does.
   * @param anonymous who a client without a token is; null: it must authenticate.
   */
  open(token: string | null, query: URLSearchParams, anonymous: Principal | null): void {
    this.query = query;
    this.socket.on('message', (data, isBinary) => this.receive(data, isBinary));
    this.socket.on('ping', (data) => {
      if (this.admits()) this.outlet.pong(data);
    });
    this.socket.on('pong', () => {
      // One that was not asked for is one more frame of the client's.
      if (this.alive) this.admits();
      this.alive = true;
    });
    // ws closes the connection itself after an error; unheard, the event would end the process.
    this.socket.on('error', () => undefined);
    this.socket.once('close', () => {
      clearTimeout(this.timer);
      this.unsubscribe();
      this.room.stand(this.seat);
    });
    if (token !== null) {
      this.enqueue(() => this.authenticate(token, 'connected'));
    } else if (anonymous) {
      this.enqueue(() => this.admit(anonymous, 'connected'));
    } else {
      this.outlet.tell('connected', {
        authenticated: false,
        authenticate_within_seconds: AUTHENTICATE_WITHIN_MS / 1_000,
      });
      this.timer = setTimeout(() => {
        this.audit.denied(null, 'no_token');
        this.close(UNAUTHENTICATED, 'not authenticated in time');
      }, AUTHENTICATE_WITHIN_MS);
    }
  }

  /** Drops a peer that has not answered the ping before. */
  ping(): void {
    if (!this.alive) {
      this.socket.terminate();
      return;
    }
    this.alive = false;
    this.outlet.ping();
  }

  close(code: number, reason: string): void {
    this.outlet.close(code, reason);
  }

  private receive(data: RawData, isBinary: boolean): void {
    if (!this.admits()) return;
    if (this.waiting >= MAX_WAITING) {
      this.close(TRY_AGAIN_LATER, 'too many messages');
      return;
    }
    const text = isBinary ? null : (data as Buffer).toString('utf8');
    this.enqueue(async () => {
      // It will hear no answer, and its subscriptions need no entry.
      if (this.outlet.isClosed()) return;
      if (text === null)
        throw new DomainError('invalid', 'invalid_message', 'Messages are text, not binary.');
      await this.obey(this.read(text));
    });
  }

  private read(text: string): ClientMessage {
    try {
      return parseClientMessage(text);
    } catch (error) {
      if (error instanceof UnreadableResume) this.unsubscribe();
      throw error;
    }
  }

  /** Counts whatever the client sends, since all of it is work. @returns whether it is to be heard. */
  private admits(): boolean {
    // What arrives after the goodbye is not.
    if (this.allowance.take()) return !this.outlet.isClosed();
    if (!this.outlet.isClosed()) {
      this.unsubscribe();
      this.audit.denied(this.identity ?? null, 'too_many_messages');
      this.close(TOO_MANY, 'too many messages');
    }
    this.outlet.ignore();
    return false;
  }

  private enqueue(work: () => Promise<void>): void {
    this.waiting += 1;
    this.turn = this.turn
      .then(work)
      .catch((error: unknown) => this.complain(error))
      .finally(() => {
        this.waiting -= 1;
      });
  }

  private async obey(message: ClientMessage): Promise<void> {
    if (message.event === 'authenticate') {
      await this.authenticate(message.token, 'authenticated');
      return;
    }
    if (message.event !== 'subscribe' || message.since === null) this.subscription?.release();
    if (message.event === 'ping') {
      this.outlet.tell('pong', {});
      return;
    }
    if (!this.identity) throw new InvalidTokenError('Authenticate first.');
    if (message.event === 'subscribe') {
      await this.subscribe(this.identity, message, () => this.outlet.tell('subscribed', message.echo));
    } else {
      this.unsubscribe();
      this.outlet.tell('unsubscribed', {});
    }
  }

  /** @param announce tells that it is done, before anything follows from it. */
  private async subscribe(identity: Principal, { filter, since }: Wish, announce: () => void): Promise<void> {
    // What it was not told yet, it may be about to be told in its order.
    if (since) this.subscription?.stay();
    try {
      await this.feed.opened;
      if (since) await this.replay.check(since, this.feed.position);
      await this.audit.subscribed(identity, filter, since !== null);
    } catch (error) {
      // What it is told goes on: it has asked for nothing that lies before.
      if (!since && this.subscription) throw error;
      this.refuse(error);
      return;
    }
    // The feed would keep it for ever.
    if (this.outlet.isClosed()) return;
    this.wanted = filter;
    const subscription = this.replace(identity);
    announce();
    if (since) this.resume(subscription, since);
    else subscription.begin();
  }

  /** Not waited for: the client may say something else meanwhile. */
  private resume(subscription: Subscription, since: StreamPosition): void {
    subscription
      .resume(since, (count) => this.outlet.tell('replayed', { events: count }))
      .catch((error: unknown) => this.failed(subscription, error));
  }

  private failed(subscription: Subscription, error: unknown): void {
    if (this.subscription === subscription) this.refuse(error, true);
  }

  /**
   * It is told why, and no event before it subscribes anew: with the id of any, the client would go on past what it has
   * missed. Who can not mend that by asking for something else is closed, and comes back with the id that it has.
   */
  private refuse(error: unknown, isOver = !(error instanceof DomainError) || error.kind !== 'invalid'): void {
    this.unsubscribe();
    this.complain(error);
    if (isOver) this.close(TRY_AGAIN_LATER, 'what was asked for can not be told now');
  }

  private replace(identity: Principal): Subscription {
    this.unsubscribe();
    this.subscription = new Subscription(this.feed, this.replay, this.outlet, identity, this.wanted);
    return this.subscription;
  }

  private unsubscribe(): void {
    this.subscription?.end();
    this.subscription = undefined;
  }

  private async authenticate(token: string, answer: 'connected' | 'authenticated'): Promise<void> {
    let principal: Principal;
    try {
      principal = await this.verifier.verify(token);
    } catch (error) {
      this.unsubscribe();
      if (error instanceof DomainError) {
        this.close(TRY_AGAIN_LATER, error.code);
        return;
      }
      this.audit.denied(null, 'bad_token');
      this.close(UNAUTHENTICATED, error instanceof InvalidTokenError ? error.message : 'not authenticated');
      return;
    }
    if (this.outlet.isClosed()) return;
    if (!this.sit(token)) {
      this.unsubscribe();
      this.audit.denied(principal, 'too_many_connections');
      this.close(TOO_MANY, 'too many connections with this token');
      return;
    }
    await this.admit(principal, answer);
  }

  /** @returns whether there is room for one more connection with this token. */
  private sit(token: string): boolean {
    if (seatOf(token) === this.seat) return true;
    const seat = this.room.sit(token);
    if (seat === null) return false;
    this.room.stand(this.seat);
    this.seat = seat;
    return true;
  }

  private async admit(principal: Principal, answer: 'connected' | 'authenticated'): Promise<void> {
    if (this.outlet.isClosed()) return;
    if (!principal.has('stream')) {
      this.unsubscribe();
      this.audit.denied(principal, 'insufficient_scope');
      this.outlet.tell('error', { code: 'insufficient_scope', message: 'This needs the scope stream.' });
      this.close(FORBIDDEN, 'insufficient_scope');
      return;
    }
    try {
      await this.audit.opened(principal);
    } catch {
      this.unsubscribe();
      this.close(TRY_AGAIN_LATER, 'the audit log can not be written at the moment');
      return;
    }
    if (this.outlet.isClosed()) return;
    const before = this.identity;
    this.identity = principal;
    clearTimeout(this.timer);
    if (principal.expiresAt !== null) {
      const remaining = principal.expiresAt * 1_000 - Date.now();
      const expire = (): void => this.close(UNAUTHENTICATED, 'The token has expired.');
      this.timer = setTimeout(expire, Math.max(0, Math.min(remaining, LONGEST_TIMER_MS)));
    }
    await this.feed.opened;
    if (this.outlet.isClosed()) return;
    const announce = (): void => {
      // Whoever hears of nothing at all can go on from here as well.
      this.outlet.tell(answer, { authenticated: true, last_id: this.feed.position.toString() });
    };
    if (before) {
      this.goOn(principal, before, announce);
      return;
    }
    announce();
    await this.begin(principal);
  }

  /**
   * With a new token. One that shows the same changes nothing of what is under way, and none begins anything.
   * @param announce tells that it counts: before that, all is told that the old one showed, and after it nothing.
   */
  private goOn(identity: Principal, before: Principal, announce: () => void): void {
    if (!this.subscription || reachOf(identity) === reachOf(before)) {
      announce();
      return;
    }
    const { isResuming, heldSince } = this.subscription;
    const subscription = this.replace(identity);
    announce();
    if (isResuming) this.close(TRY_AGAIN_LATER, 'another identity, while catching up');
    else if (heldSince) this.beginHeld(subscription, heldSince);
    else subscription.begin();
  }

  /** Gives a client what its handshake asked for; or all, but not before it had its say. */
  private async begin(identity: Principal): Promise<void> {
    const wish = wishOf(this.query);
    if (wish.since || Object.keys(wish.filter).length > 0) {
      await this.subscribe(identity, wish, () => undefined);
      return;
    }
    this.beginHeld(this.replace(identity), null);
  }

  private beginHeld(subscription: Subscription, since: StreamPosition | null): void {
    subscription.beginHeld(FIRST_WORD_WITHIN_MS, (error) => this.failed(subscription, error), since);
  }

  private complain(error: unknown): void {
    const known =
      error instanceof DomainError
        ? {
            code: error.code,
            message: error.message,
            ...(error.errors.length > 0 && { errors: error.errors }),
          }
        : error instanceof InvalidTokenError
          ? { code: 'unauthorized', message: error.message }
          : { code: 'internal_error', message: 'Something went wrong here.' };
    this.outlet.tell('error', known);
  }
}
