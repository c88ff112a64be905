import {
  Controller,
  Get,
  Header,
  Headers,
  HttpException,
  Query,
  Req,
  Res,
  StreamableFile,
  type BeforeApplicationShutdown,
} from '@nestjs/common';
import { ApiHeader, ApiOperation, ApiProduces, ApiResponse, ApiTags } from '@nestjs/swagger';
import type { Request, Response } from 'express';
import { AuditTrail, DomainError, Principal } from '#kernel';
import { ApiProblems, bearerToken, Caller, Config, requestIdOf, RequireScope } from '#platform';
import { LiveFeed } from '../application/live-feed.js';
import { StreamReplay } from '../application/stream-replay.js';
import { Subscription } from '../application/subscription.js';
import { StreamPosition } from '../domain/stream-position.js';
import { EventStream } from './event-stream.js';
import { LiveAudit } from './live-audit.js';
import { wishOf, type Wish } from './live-message.js';
import { LiveRoom } from './live-room.js';
import { StreamQuery } from './stream.dto.js';

const EVENT_STREAM = 'text/event-stream';
const TOO_MANY_REQUESTS = 429;
/** setTimeout counts in a signed 32-bit integer. */
const LONGEST_TIMER_MS = 2_147_483_647;

/** The live stream for clients that can't do WebSocket: server-sent events (HTML standard, section 9.2). */
@ApiTags('stream')
@Controller('stream')
export class StreamController implements BeforeApplicationShutdown {
  private readonly open = new Set<EventStream>();
  private readonly heartbeats: NodeJS.Timeout;

  constructor(
    private readonly feed: LiveFeed,
    private readonly replay: StreamReplay,
    private readonly room: LiveRoom,
    private readonly trail: AuditTrail,
    private readonly config: Config,
  ) {
    this.heartbeats = setInterval(
      () => this.open.forEach((stream) => stream.beat()),
      config.webSocket.pingInterval,
    );
    this.heartbeats.unref();
  }

  @Get()
  @RequireScope('stream')
  // A proxy that collects answers would keep the events (nginx).
  @Header('X-Accel-Buffering', 'no')
  @ApiOperation({
    summary: 'The live stream as server-sent events',
    description:
      'For clients that can not do WebSocket; the same events, ids and rights. It begins with `connected`, goes on until ' +
      'the client leaves, and ends with `error` when the token expires or the client does not read.',
    operationId: 'openStream',
  })
  @ApiHeader({
    name: 'Last-Event-ID',
    required: false,
    description: 'The last id that was read: what followed is told first',
  })
  @ApiProduces(EVENT_STREAM)
  @ApiResponse({ status: 200, content: { [EVENT_STREAM]: { schema: { type: 'string' } } } })
  @ApiProblems(400, 401, 403, 429, 503)
  async watch(
    @Query() _query: StreamQuery,
    @Headers('last-event-id') lastEventId: string | undefined,
    @Req() request: Request,
    @Res({ passthrough: true }) response: Response,
    @Caller() caller: Principal,
  ): Promise<StreamableFile> {
    const { filter, since } = readWish(request, lastEventId);
    const isNarrowed = Object.keys(filter).length > 0;
    if (request.method === 'HEAD') return new StreamableFile(Buffer.alloc(0), { type: EVENT_STREAM });
    if (!this.feed.isOpen)
      throw new DomainError('unavailable', 'stream_unavailable', 'The stream has not begun yet.');
    this.takeSeat(request, response);
    if (since) await this.replay.check(since, this.feed.position);
    const audit = new LiveAudit(
      this.trail,
      this.config.streamReplay,
      request.ip ?? null,
      requestIdOf(request.headers['x-request-id']),
    );
    // That it was opened is written down before anything of it is shown, as for every route.
    if (isNarrowed) await audit.subscribed(caller, filter, since !== null);
    // It has left meanwhile, and would never be heard to leave.
    if (response.destroyed) return new StreamableFile(Buffer.alloc(0), { type: EVENT_STREAM });
    return new StreamableFile(this.begin(response, caller, { filter, since }), { type: EVENT_STREAM });
  }

  /** Says goodbye, so that clients reconnect elsewhere. */
  beforeApplicationShutdown(): void {
    clearInterval(this.heartbeats);
    this.open.forEach((stream) => stream.end('service_stopping', 'The service is stopping.'));
  }

  /** @throws DomainError unavailable/too_many_connections, HttpException 429; what was taken is given back at the end. */
  private takeSeat(request: Request, response: Response): void {
    if (!this.room.enter()) {
      throw new DomainError('unavailable', 'too_many_connections', 'As many watch as there may.');
    }
    const seat = this.room.sit(bearerToken(request.headers.authorization) ?? '');
    response.once('close', () => {
      this.room.leave();
      this.room.stand(seat ?? undefined);
    });
    if (seat === null) throw new HttpException('Too many connections with this token.', TOO_MANY_REQUESTS);
  }

  private begin(response: Response, caller: Principal, { filter, since }: Wish): EventStream['body'] {
    let timer: NodeJS.Timeout | undefined;
    const stream = new EventStream(
      response,
      this.config.webSocket.maxBuffer,
      () => {
        clearTimeout(timer);
        this.open.delete(stream);
        subscription.end();
      },
      () => {
        this.feed.counts.dropped += 1;
      },
    );
    const subscription = new Subscription(this.feed, this.replay, stream, caller, filter);
    this.open.add(stream);
    // It may be silent for long: whether the other side is there is the heartbeats' to find out.
    response.socket?.setTimeout(0);
    if (caller.expiresAt !== null) {
      const remaining = caller.expiresAt * 1_000 - Date.now();
      const expire = (): void => stream.end('token_expired', 'The token has expired.');
      timer = setTimeout(expire, Math.max(0, Math.min(remaining, LONGEST_TIMER_MS)));
    }
    const lastId = this.feed.position.toString();
    // Whoever goes on from somewhere has not read what lies between.
    stream.tell('connected', { authenticated: true, last_id: lastId }, since ? null : lastId);
    if (!since) {
      subscription.begin();
      return stream.body;
    }
    subscription
      .resume(since, (count) => stream.tell('replayed', { events: count }))
      .catch((error: unknown) => {
        if (error instanceof DomainError) stream.end(error.code, error.message);
        else stream.end('internal_error', 'What was missed can not be told now.');
      });
    return stream.body;
  }
}

/** @throws DomainError invalid/validation_failed, invalid/since_unknown */
function readWish(request: Request, lastEventId: string | undefined): Wish {
  const { searchParams } = new URL(request.originalUrl, 'http://localhost');
  // A browser that comes back asks at the same address, and knows better in its header.
  if (lastEventId !== undefined && lastEventId !== '') searchParams.delete('since');
  try {
    const { filter, since } = wishOf(searchParams);
    return { filter, since: lastEventId ? StreamPosition.parse(lastEventId) : since };
  } catch (error) {
    if (!(error instanceof DomainError) || error.code !== 'invalid_message') throw error;
    throw new DomainError('invalid', 'validation_failed', error.message, error.errors);
  }
}
