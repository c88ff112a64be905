import { ClientRedis } from '@nestjs/microservices';
import type { Redis } from 'ioredis';
import type { EventAddress } from '../../config/event-address.js';
import type { EventMessage } from '../event-message.js';
import { QuietLogger } from './quiet-logger.js';

const CONNECT_WITHIN_MS = 5_000;

/** Nest's client for Redis: PUBLISH, which reaches whoever listens at that moment. */
export class RedisEventClient extends ClientRedis {
  protected override readonly logger = new QuietLogger();
  readonly maxBytes = Infinity;

  constructor({ hosts, tls, username, password }: EventAddress) {
    super({
      ...hosts[0],
      ...(username !== undefined && { username }),
      ...(password !== undefined && { password }),
      ...(tls && { tls: {} }),
      connectTimeout: CONNECT_WITHIN_MS,
      // What waits on a lost connection is in the outbox by then.
      enableOfflineQueue: false,
      autoResendUnfulfilledCommands: false,
      retryAttempts: 0,
    });
  }

  async handOver(messages: readonly EventMessage[]): Promise<void> {
    const pipeline = (this.pubClient as Redis).pipeline();
    for (const { type, text } of messages) pipeline.publish(type, text);
    const answers = (await pipeline.exec()) ?? [];
    const refusal = answers.find(([error]) => error)?.[0];
    if (refusal) throw refusal;
  }

  /** Nest's asks both connections to say goodbye, and waits for that. */
  override close(): Promise<void> {
    for (const client of [this.pubClient, this.subClient] as (Redis | null)[]) client?.disconnect();
    return Promise.resolve();
  }
}
