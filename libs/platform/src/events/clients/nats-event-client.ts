import { setImmediate } from 'node:timers/promises';
import { ClientNats } from '@nestjs/microservices';
import type { NatsConnection } from '@nats-io/transport-node';
import type { EventAddress } from '../../config/event-address.js';
import type { EventMessage } from '../event-message.js';
import { QuietLogger } from './quiet-logger.js';

const CONNECT_WITHIN_MS = 5_000;
const PING_EVERY_MS = 10_000;

/**
 * Nest's client for NATS. What it publishes waits in memory, and NATS answers nothing: whatever was published before
 * a round trip, the server has once that has come back.
 */
export class NatsEventClient extends ClientNats {
  protected override readonly logger = new QuietLogger();
  private refusal: Error | undefined;

  constructor({ hosts, tls, username, password }: EventAddress) {
    super({
      servers: hosts.map(({ host, port }) => `${host.includes(':') ? `[${host}]` : host}:${port}`),
      name: 'mqtt-service',
      ...(username !== undefined && password !== undefined && { user: username, pass: password }),
      // NATS calls a secret without a name a token.
      ...(username !== undefined && password === undefined && { token: username }),
      // With options, the client refuses a server without TLS.
      ...(tls && { tls: {} }),
      timeout: CONNECT_WITHIN_MS,
      pingInterval: PING_EVERY_MS,
      // It would publish on the next connection what is in the outbox by then.
      reconnect: false,
    });
  }

  override async connect(): Promise<void> {
    const connection = (await super.connect()) as NatsConnection;
    void this.hearRefusals(connection);
  }

  get maxBytes(): number {
    return this.unwrap<NatsConnection>().info?.max_payload ?? Infinity;
  }

  async handOver(messages: readonly EventMessage[]): Promise<void> {
    const connection = this.unwrap<NatsConnection>();
    for (const { type, text } of messages) connection.publish(type, text);
    await connection.flush();
    // The server refuses before it answers, but the client tells of it some microtasks later.
    await setImmediate();
    if (this.refusal) throw this.refusal;
  }

  private async hearRefusals(connection: NatsConnection): Promise<void> {
    for await (const status of connection.status()) {
      if (status.type === 'error') this.refusal ??= status.error;
    }
  }
}
