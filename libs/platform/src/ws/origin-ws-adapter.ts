import type { Server } from 'node:http';
import type { NestExpressApplication } from '@nestjs/platform-express';
import { WsAdapter } from '@nestjs/platform-ws';
import type { ServerOptions, WebSocket } from 'ws';
import type { Config } from '../config/config.js';
import { serveForeignUpgrades } from './foreign-upgrades.js';
import { codeOfStatus, problemBody } from '../http/problem.filter.js';
import type { Throttle } from '../http/throttle.js';

const MAX_FRAME_BYTES = 65_536;
/**
 * RFC 7692, section 7.1: no context is kept from one message to the next, so that a message is compressed once for all who
 * get it, and none for each connection takes memory.
 */
const SHARED_DEFLATE = { serverNoContextTakeover: true, clientNoContextTakeover: true };
const LOOPBACK_NAMES: ReadonlySet<string> = new Set(['localhost', '127.0.0.1', '[::1]']);
const PROBLEM = { 'Content-Type': 'application/problem+json; charset=utf-8' } as const;
const TOO_MANY_REQUESTS = problemBody({
  status: 429,
  code: codeOfStatus(429),
  detail: 'Too many requests; Retry-After tells when to come back.',
});

/**
 * Nest's adapter for ws with an Origin check at the handshake, so that a foreign page can't use a visitor's
 * network position (RFC 6455, section 10.2), a limit on how often an address may come, and on what a client may send.
 */
export class OriginWsAdapter extends WsAdapter {
  private readonly server: Server;
  private readonly paths = new Set<string>();

  constructor(
    app: NestExpressApplication,
    private readonly config: Config,
    private readonly throttle: Throttle,
  ) {
    super(app);
    this.server = app.getHttpServer();
  }

  override create(port: number, options: Record<string, unknown> = {}): unknown {
    const limits: ServerOptions = {
      maxPayload: MAX_FRAME_BYTES,
      // ws would answer pings also when nobody reads the answers.
      autoPong: false,
      perMessageDeflate: this.config.webSocket.compression ? SHARED_DEFLATE : false,
      verifyClient: ({ origin, req }, done) => {
        void this.throttle.handshake(req).then((seconds) => {
          if (seconds !== null) {
            done(false, 429, TOO_MANY_REQUESTS, { ...PROBLEM, 'Retry-After': String(seconds) });
            return;
          }
          const allowed = isAllowedOrigin(origin, req.headers.host, this.config.webSocket);
          done(allowed, 403, 'Origin not allowed');
        });
      },
    };
    const created: unknown = super.create(port, { ...options, ...limits } as never);
    this.paths.add(String(options['path']));
    // Nest listens from the first of them on.
    if (this.paths.size === 1) serveForeignUpgrades(this.server, this.paths);
    return created;
  }

  /** What a client sends wrong is the client's trouble and closes its socket; a log line each would flood the log. */
  override bindErrorHandler<
    Server extends { on: (event: string, listener: (value: never) => void) => unknown },
  >(server: Server): Server {
    server.on('connection', (socket: WebSocket) => socket.on('error', () => undefined));
    server.on('error', (error: Error) => this.logger.error(error));
    return server;
  }

  /** Gateways here listen to their sockets themselves: the adapter would drop malformed messages silently. */
  override bindMessageHandlers(client: WebSocket, handlers: never[], transform: never): void {
    if (handlers.length > 0) super.bindMessageHandlers(client, handlers, transform);
  }
}

/** A client that is no browser sends no Origin; a browser's must be a configured one, or our own. */
export function isAllowedOrigin(
  origin: string | undefined,
  host: string | undefined,
  {
    allowedOrigins,
    allowLoopbackOrigins,
  }: Pick<Config['webSocket'], 'allowedOrigins' | 'allowLoopbackOrigins'>,
): boolean {
  if (origin === undefined) return true;
  if (allowedOrigins.includes(origin)) return true;
  if (!URL.canParse(origin)) return false;
  const url = new URL(origin);
  // On loopback, a foreign name in Host means that a page had its name resolved to this machine (DNS rebinding).
  return allowLoopbackOrigins ? LOOPBACK_NAMES.has(url.hostname) : url.host === host;
}
