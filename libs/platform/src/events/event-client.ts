import type { Observable } from 'rxjs';
import type { EventAddress, EventSystem } from '../config/event-address.js';
import { KafkaEventClient } from './clients/kafka-event-client.js';
import { NatsEventClient } from './clients/nats-event-client.js';
import { RabbitMqEventClient } from './clients/rabbitmq-event-client.js';
import { RedisEventClient } from './clients/redis-event-client.js';
import type { EventMessage } from './event-message.js';

/** One of Nest's clients, which hands over many events at once. It is connected once: a lost one is given up. */
export interface EventClient {
  connect(): Promise<unknown>;
  /** Nest's: `connected`, and other words when that has ended. */
  readonly status: Observable<string>;
  /** Bytes of the largest event the system accepts. */
  readonly maxBytes: number;
  /** Resolves once the system has said that it has all of them, in this order. */
  handOver(messages: readonly EventMessage[]): Promise<void>;
  close(): Promise<void>;
}

/** What has to be installed, by system. */
const PACKAGES: Readonly<Record<EventSystem, readonly string[]>> = {
  NATS: ['@nats-io/transport-node'],
  RabbitMQ: ['amqplib', 'amqp-connection-manager'],
  Kafka: ['kafkajs'],
  Redis: ['ioredis'],
};

/**
 * Looks for the packages that the address needs. Nest would end the process later, with less to say.
 * @throws Error that says what to install.
 */
export async function assertEventClient(address: EventAddress | undefined): Promise<void> {
  if (!address) return;
  const missing: string[] = [];
  for (const name of PACKAGES[address.system]) {
    try {
      await import(name);
    } catch (error) {
      if (!/MODULE_NOT_FOUND$/.test(String((error as NodeJS.ErrnoException).code))) throw error;
      missing.push(name);
    }
  }
  if (missing.length > 0)
    throw new Error(
      `EVENTS_URL: events to ${address.system} need packages that are not installed: npm install ${missing.join(' ')}`,
    );
}

/** A client for the address, not connected yet. */
export function createEventClient(address: EventAddress): EventClient {
  switch (address.system) {
    case 'NATS':
      return new NatsEventClient(address);
    case 'RabbitMQ':
      return new RabbitMqEventClient(address);
    case 'Kafka':
      return new KafkaEventClient(address);
    case 'Redis':
      return new RedisEventClient(address);
  }
}
