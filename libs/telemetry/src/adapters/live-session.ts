import { createHash } from 'node:crypto';
import type { Socket } from 'node:net';
import type { RawData, WebSocket } from 'ws';
import { DomainError, type Principal } from '#kernel';
import { InvalidTokenError, type TokenVerifier } from '#platform';
import type { FrameFormat, LiveFeed, Watcher } from '../application/live-feed.js';
import { NO_FILTER, type StreamFilter } from '../domain/stream-filter.js';
import type { LiveAudit } from './live-audit.js';
import { parseClientMessage, type ClientMessage } from './live-message.js';
import { MessageAllowance } from './message-allowance.js';
import type { TokenSeats } from './token-seats.js';
import { textFrames } from './web-socket-frame.js';

const AUTHENTICATE_WITHIN_MS = 5_000;
/** The contract's own close code: no token, a bad one, or one that has expired. */
const UNAUTHENTICATED = 4401;
const FORBIDDEN = 4403;
/** A close code of our own, after HTTP's 429: too many connections with this token, or messages on this connection. */
const TOO_MANY = 4429;
/** RFC 6455 registry, 1013: try again later. */
const TRY_AGAIN_LATER = 1013;
/** setTimeout counts in a signed 32-bit integer. */
const LONGEST_TIMER_MS = 2_147_483_647;
/** Messages a client may have waiting to be read; one that sends more is not listening to the answers. */
const MAX_WAITING = 100;

/** The WebSockets' own way to send is not used: it would make a header anew for each of them. */
const WEB_SOCKET: FrameFormat = { encode: textFrames };

/** One WebSocket connection: who it is, what it wants, and what it is told. */
export class LiveSession implements Watcher {
  readonly format = WEB_SOCKET;
  private identity: Principal | undefined;
  private wanted: StreamFilter = NO_FILTER;
  private alive = true;
  private timer: NodeJS.Timeout | undefined;
  private waiting = 0;
  private readonly allowance = new MessageAllowance();
  private seat: string | undefined;
  /** Messages are taken one after the other, also when one has to wait for a key server. */
  private turn: Promise<void> = Promise.resolve();

  /** @param connection what the WebSocket runs on. */
  constructor(
    private readonly socket: WebSocket,
    private readonly connection: Socket,
    private readonly feed: LiveFeed,
    private readonly verifier: TokenVerifier,
    private readonly audit: LiveAudit,
    private readonly maxBuffer: number,
    private readonly seats: TokenSeats,
  ) {}

  /** Only called for watchers of the feed, which have an identity. */
  get principal(): Principal {
    if (!this.identity) throw new Error('not authenticated');
    return this.identity;
  }

  get filter(): StreamFilter {
    return this.wanted;
  }

  private isClosed(): boolean {
    return this.socket.readyState !== this.socket.OPEN;
  }

  /**
   * Begins the conversation.
   * @param token from the handshake, if it carried one.
   * @param anonymous who a client without a token is; null: it must authenticate.
   */
  open(token: string | null, anonymous: Principal | null): void {
    this.socket.on('message', (data, isBinary) => this.receive(data, isBinary));
    this.socket.on('pong', () => {
      this.alive = true;
    });
    // ws closes the connection itself after an error; unheard, the event would end the process.
    this.socket.on('error', () => undefined);
    this.socket.once('close', () => {
      clearTimeout(this.timer);
      this.feed.remove(this);
      this.seats.leave(this.seat);
    });
    if (token !== null) {
      this.enqueue(() => this.authenticate(token, 'connected'));
    } else if (anonymous) {
      this.enqueue(() => this.admit(anonymous, 'connected'));
    } else {
      this.tell('connected', {
        authenticated: false,
        authenticate_within_seconds: AUTHENTICATE_WITHIN_MS / 1_000,
      });
      this.timer = setTimeout(() => {
        this.audit.denied(null, 'no_token');
        this.close(UNAUTHENTICATED, 'not authenticated in time');
      }, AUTHENTICATE_WITHIN_MS);
    }
  }

  send(frames: Buffer): void {
    if (this.socket.readyState !== this.socket.OPEN) return;
    if (this.socket.bufferedAmount > this.maxBuffer) {
      this.feed.remove(this);
      this.close(TRY_AGAIN_LATER, 'too slow');
      return;
    }
    this.connection.write(frames);
  }

  /** Drops a peer that has not answered the ping before. */
  ping(): void {
    if (!this.alive) {
      this.socket.terminate();
      return;
    }
    this.alive = false;
    this.socket.ping();
  }

  close(code: number, reason: string): void {
    this.socket.close(code, reason);
  }

  private receive(data: RawData, isBinary: boolean): void {
    // What arrives after the goodbye is not read.
    if (this.isClosed()) return;
    if (!this.allowance.take()) {
      this.feed.remove(this);
      this.audit.denied(this.identity ?? null, 'too_many_messages');
      this.close(TOO_MANY, 'too many messages');
      return;
    }
    if (this.waiting >= MAX_WAITING) {
      this.close(TRY_AGAIN_LATER, 'too many messages');
      return;
    }
    const text = isBinary ? null : (data as Buffer).toString('utf8');
    this.enqueue(async () => {
      // It will hear no answer, and its subscriptions need no entry.
      if (this.isClosed()) return;
      if (text === null)
        throw new DomainError('invalid', 'invalid_message', 'Messages are text, not binary.');
      await this.obey(parseClientMessage(text));
    });
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
    if (message.event === 'ping') {
      this.tell('pong', {});
      return;
    }
    if (message.event === 'authenticate') {
      await this.authenticate(message.token, 'authenticated');
      return;
    }
    if (!this.identity) throw new InvalidTokenError('Authenticate first.');
    if (message.event === 'subscribe') {
      await this.audit.subscribed(this.identity, message.filter);
      // The feed would keep it for ever.
      if (this.isClosed()) return;
      this.wanted = message.filter;
      this.feed.add(this);
      this.tell('subscribed', message.echo);
    } else {
      this.feed.remove(this);
      this.tell('unsubscribed', {});
    }
  }

  private async authenticate(token: string, answer: 'connected' | 'authenticated'): Promise<void> {
    let principal: Principal;
    try {
      principal = await this.verifier.verify(token);
    } catch (error) {
      this.feed.remove(this);
      if (error instanceof DomainError) {
        this.close(TRY_AGAIN_LATER, error.code);
        return;
      }
      this.audit.denied(null, 'bad_token');
      this.close(UNAUTHENTICATED, error instanceof InvalidTokenError ? error.message : 'not authenticated');
      return;
    }
    if (this.isClosed()) return;
    if (!this.sit(token)) {
      this.feed.remove(this);
      this.audit.denied(principal, 'too_many_connections');
      this.close(TOO_MANY, 'too many connections with this token');
      return;
    }
    await this.admit(principal, answer);
  }

  /** @returns whether there is room for one more connection with this token. */
  private sit(token: string): boolean {
    const seat = createHash('sha256').update(token).digest('base64');
    if (seat === this.seat) return true;
    if (!this.seats.take(seat)) return false;
    this.seats.leave(this.seat);
    this.seat = seat;
    return true;
  }

  private async admit(principal: Principal, answer: 'connected' | 'authenticated'): Promise<void> {
    if (this.isClosed()) return;
    if (!principal.has('stream')) {
      this.feed.remove(this);
      this.audit.denied(principal, 'insufficient_scope');
      this.tell('error', { code: 'insufficient_scope', message: 'This needs the scope stream.' });
      this.close(FORBIDDEN, 'insufficient_scope');
      return;
    }
    try {
      await this.audit.opened(principal);
    } catch {
      this.feed.remove(this);
      this.close(TRY_AGAIN_LATER, 'the audit log can not be written at the moment');
      return;
    }
    if (this.isClosed()) return;
    this.identity = principal;
    clearTimeout(this.timer);
    if (principal.expiresAt !== null) {
      const remaining = principal.expiresAt * 1_000 - Date.now();
      const expire = (): void => this.close(UNAUTHENTICATED, 'The token has expired.');
      this.timer = setTimeout(expire, Math.max(0, Math.min(remaining, LONGEST_TIMER_MS)));
    }
    this.tell(answer, { authenticated: true });
    this.feed.add(this);
  }

  private complain(error: unknown): void {
    const known =
      error instanceof DomainError
        ? { code: error.code, message: error.message }
        : error instanceof InvalidTokenError
          ? { code: 'unauthorized', message: error.message }
          : { code: 'internal_error', message: 'Something went wrong here.' };
    this.tell('error', known);
  }

  private tell(event: string, data: Readonly<Record<string, unknown>>): void {
    this.send(textFrames([JSON.stringify({ event, time: new Date().toISOString(), data })]));
  }
}
