import type { IncomingMessage } from 'node:http';
import { Injectable, type BeforeApplicationShutdown } from '@nestjs/common';
import { WebSocketGateway, type OnGatewayConnection } from '@nestjs/websockets';
import type { WebSocket } from 'ws';
import { AuditTrail, Principal } from '#kernel';
import { bearerToken, Config, requestIdOf, sourceAddress, TokenVerifier, trustedProxies } from '#platform';
import { LiveFeed } from '../application/live-feed.js';
import { StreamReplay } from '../application/stream-replay.js';
import { LiveAudit } from './live-audit.js';
import { LiveRoom } from './live-room.js';
import { LiveSession } from './live-session.js';

/** RFC 6455 registry, 1013: try again later. */
const TRY_AGAIN_LATER = 1013;
/** How long a client that is turned away may take to say goodbye. */
const GOODBYE_MS = 1_000;
/** RFC 6455, section 7.4.1: the endpoint is going away. */
const GOING_AWAY = 1001;

/** The live stream at `/ws/mqtt`. */
@Injectable()
@WebSocketGateway({ path: '/ws/mqtt' })
export class LiveGateway implements OnGatewayConnection<WebSocket>, BeforeApplicationShutdown {
  private readonly sessions = new Set<LiveSession>();
  private readonly pings: NodeJS.Timeout;
  private readonly trusted: ReturnType<typeof trustedProxies>;

  constructor(
    private readonly feed: LiveFeed,
    private readonly replay: StreamReplay,
    private readonly verifier: TokenVerifier,
    private readonly config: Config,
    private readonly trail: AuditTrail,
    private readonly room: LiveRoom,
  ) {
    const { pingInterval } = config.webSocket;
    this.trusted = trustedProxies(config.http);
    this.pings = setInterval(() => this.sessions.forEach((session) => session.ping()), pingInterval);
    this.pings.unref();
  }

  /** Synchronous on purpose: messages may follow the handshake at once, and must find their listener. */
  handleConnection(socket: WebSocket, request: IncomingMessage): void {
    const { webSocket } = this.config;
    if (!this.room.enter()) {
      socket.close(TRY_AGAIN_LATER, 'too many connections');
      setTimeout(() => socket.terminate(), GOODBYE_MS).unref();
      return;
    }
    const audit = new LiveAudit(
      this.trail,
      this.config.streamReplay,
      sourceAddress(request, this.trusted),
      requestIdOf(request.headers['x-request-id']),
    );
    const session = new LiveSession(
      socket,
      request.socket,
      this.feed,
      this.replay,
      this.verifier,
      audit,
      webSocket.maxBuffer,
      compresses(socket, request),
      this.room,
    );
    this.sessions.add(session);
    socket.once('close', () => {
      this.sessions.delete(session);
      this.room.leave();
    });
    const query = new URL(request.url ?? '/', 'http://localhost').searchParams;
    session.open(
      tokenOf(request, query),
      query,
      webSocket.allowAnonymous ? Principal.anonymousViewer() : null,
    );
  }

  /** Says goodbye, so that clients reconnect elsewhere rather than wait for a dead socket. */
  beforeApplicationShutdown(): void {
    clearInterval(this.pings);
    this.sessions.forEach((session) => session.close(GOING_AWAY, 'the service is stopping'));
  }
}

/** RFC 7692, section 7.1.2.1: a window of a client's own would need frames of its own, and compressing is never a must. */
function compresses({ extensions }: WebSocket, { headers }: IncomingMessage): boolean {
  const asked = String(headers['sec-websocket-extensions']);
  return extensions.includes('permessage-deflate') && !asked.includes('server_max_window_bits');
}

function tokenOf({ headers }: IncomingMessage, query: URLSearchParams): string | null {
  const { authorization } = headers;
  // A header that holds no bearer token is a failed attempt, not an anonymous one.
  if (authorization !== undefined) return bearerToken(authorization) ?? '';
  return query.get('token');
}
