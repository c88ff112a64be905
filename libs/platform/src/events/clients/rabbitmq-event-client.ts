import { setTimeout as sleep } from 'node:timers/promises';
import { ClientRMQ, type RmqStatus } from '@nestjs/microservices';
import type { AmqpConnectionManager, ChannelWrapper } from 'amqp-connection-manager';
import type { EventAddress } from '../../config/event-address.js';
import type { EventMessage } from '../event-message.js';
import { QuietLogger } from './quiet-logger.js';

/** The topic exchange that events go to. */
const EXCHANGE = 'events';
const CONNECT_WITHIN_MS = 5_000;
const HEARTBEAT_S = 10;
const GOODBYE_MS = 1_000;

/** Nest's client for RabbitMQ, with a topic exchange, lasting messages and the confirmations of the broker. */
export class RabbitMqEventClient extends ClientRMQ {
  protected override readonly logger = new QuietLogger();
  readonly maxBytes = Infinity;
  private opening: Promise<void> | undefined;

  constructor({ hosts, tls, username, password, virtualHost }: EventAddress) {
    super({
      urls: hosts.map(({ host, port }) => ({
        protocol: tls ? 'amqps' : 'amqp',
        hostname: host,
        port,
        // RabbitMQ lets its default account in from its own machine only.
        username: username ?? 'guest',
        password: password ?? 'guest',
        vhost: virtualHost ?? '/',
      })),
      exchange: EXCHANGE,
      wildcards: true,
      socketOptions: {
        heartbeatIntervalInSeconds: HEARTBEAT_S,
        connectionOptions: { timeout: CONNECT_WITHIN_MS },
      },
    });
  }

  /** Nest would make two of them. */
  override createChannel(): Promise<void> {
    return (this.opening ??= this.openChannel());
  }

  async handOver(messages: readonly EventMessage[]): Promise<void> {
    const channel = this.channel as ChannelWrapper;
    await Promise.all(
      messages.map(({ type, text }) =>
        channel.publish(EXCHANGE, type, Buffer.from(text), {
          persistent: true,
          contentType: 'application/cloudevents+json',
        }),
      ),
    );
  }

  /** Nest's waits for a channel to say goodbye, which one that has fallen silent never does. */
  override async close(): Promise<void> {
    const manager = this.client as AmqpConnectionManager | null;
    this.channel = null;
    this.client = null;
    const stream = manager?.connection?.connection as { readonly stream?: { destroy(): void } } | undefined;
    await Promise.race([
      manager?.close().catch(() => undefined),
      sleep(GOODBYE_MS, undefined, { ref: false }),
    ]);
    stream?.stream?.destroy();
  }

  private openChannel(): Promise<void> {
    const created = super.createChannel();
    // Nest waits on, where the exchange can't be had; unheard, the error would end the process.
    const failed = new Promise<never>((_resolve, reject) => {
      (this.channel as ChannelWrapper).on('error', (error: Error) => {
        reject(error);
        this._status$.next('disconnected' as RmqStatus);
      });
    });
    return Promise.race([created, failed]);
  }
}
