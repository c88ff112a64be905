import { ClientKafka } from '@nestjs/microservices';
import { lastValueFrom } from 'rxjs';
import type { EventAddress } from '../../config/event-address.js';
import type { EventMessage } from '../event-message.js';
import { QuietLogger } from './quiet-logger.js';

const CONNECT_WITHIN_MS = 5_000;
const ANSWER_WITHIN_MS = 8_000;
/** Of all replicas of a partition that are in step. */
const ALL = -1;
const HEADERS = { 'content-type': 'application/cloudevents+json; charset=UTF-8' };

/** Nest's client for Kafka: a topic for each type, acknowledged by all replicas, a device's events in one partition. */
export class KafkaEventClient extends ClientKafka {
  protected override readonly logger = new QuietLogger();
  readonly maxBytes = Infinity;

  constructor({ hosts, tls, username, password, mechanism }: EventAddress) {
    super({
      client: {
        clientId: 'mqtt-service',
        brokers: hosts.map(({ host, port }) => `${host.includes(':') ? `[${host}]` : host}:${port}`),
        ssl: tls,
        ...(username !== undefined && { sasl: { mechanism, username, password: password ?? '' } as never }),
        connectionTimeout: CONNECT_WITHIN_MS,
        requestTimeout: ANSWER_WITHIN_MS,
      },
      producerOnlyMode: true,
      // Two requests under way could overtake each other when the first is repeated.
      producer: { maxInFlightRequests: 1, retry: { retries: 2 } },
      send: { acks: ALL, timeout: ANSWER_WITHIN_MS },
    });
  }

  async handOver(messages: readonly EventMessage[]): Promise<void> {
    for (const type of new Set(messages.map((message) => message.type))) {
      const batch = messages
        .filter((message) => message.type === type)
        .map(({ deviceId, text }) => ({ key: deviceId, value: text, headers: HEADERS }));
      await lastValueFrom(this.emitBatch(type, { messages: batch }), { defaultValue: undefined });
    }
  }
}
