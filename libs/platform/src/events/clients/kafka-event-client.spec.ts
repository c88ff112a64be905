import { parseEventAddress } from '../../config/event-address.js';
import { EventMessage } from '../event-message.js';
import { KafkaEventClient } from './kafka-event-client.js';

interface Sent {
  readonly topic: string;
  readonly acks: number;
  readonly messages: readonly {
    readonly key: string | null;
    readonly value: string;
    readonly headers: object;
  }[];
}

/** Nest's client up to the producer of kafkajs: no broker has been tried. */
class UpToTheProducer extends KafkaEventClient {
  readonly sent: Sent[] = [];
  failure: Error | undefined;

  override connect(): Promise<never> {
    const producer = {
      send: (request: Sent) => {
        if (this.failure) return Promise.reject(this.failure);
        this.sent.push(request);
        return Promise.resolve([]);
      },
    };
    this._producer = producer as never;
    return Promise.resolve(producer as never);
  }
}

const client = (): UpToTheProducer => new UpToTheProducer(parseEventAddress('kafka://broker.invalid'));
const message = (type: string, deviceId: string | null, text: string): EventMessage =>
  new EventMessage(type, deviceId, text);

describe('KafkaEventClient', () => {
  it('sends what belongs to a topic together, keyed by device, and waits for all replicas', async () => {
    const kafka = client();
    await kafka.handOver([
      message('a', 'device_1', '{"id":"1"}'),
      message('b', null, '{"id":"2"}'),
      message('a', 'device_2', '{"id":"3"}'),
      message('a', 'device_1', '{"id":"4"}'),
    ]);
    expect(
      kafka.sent.map(({ topic, acks, messages }) => ({
        topic,
        acks,
        messages: messages.map(({ key, value }) => [key, value]),
      })),
    ).toEqual([
      {
        topic: 'a',
        acks: -1,
        messages: [
          ['device_1', '{"id":"1"}'],
          ['device_2', '{"id":"3"}'],
          ['device_1', '{"id":"4"}'],
        ],
      },
      { topic: 'b', acks: -1, messages: [[null, '{"id":"2"}']] },
    ]);
    expect(kafka.sent[0]?.messages[0]?.headers).toEqual({
      'content-type': 'application/cloudevents+json; charset=UTF-8',
    });
  });

  it('has not handed over what the producer refuses', async () => {
    const kafka = client();
    kafka.failure = new Error('not enough replicas');
    await expect(kafka.handOver([message('a', 'device_1', '{}')])).rejects.toThrow('not enough replicas');
  });
});
