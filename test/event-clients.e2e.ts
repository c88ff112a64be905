import { Controller, Module, type INestMicroservice } from '@nestjs/common';
import { NestFactory } from '@nestjs/core';
import { EventPattern, Payload, Transport, type MicroserviceOptions } from '@nestjs/microservices';
import { connect as connectRabbitMq } from 'amqplib';
import { parseEventAddress } from '../libs/platform/src/config/event-address.js';
import { createEventClient } from '../libs/platform/src/events/event-client.js';
import { EventLink } from '../libs/platform/src/events/event-link.js';
import { EventMessage } from '../libs/platform/src/events/event-message.js';
import { EventServer, type TestedEventSystem } from './support/event-servers.js';
import { until } from './support/until.js';

const message = (number: number, type = 'device.data.received'): EventMessage =>
  new EventMessage(type, 'device_1', JSON.stringify({ id: String(number), type, data: { number } }));
const messages = (count: number): EventMessage[] =>
  Array.from({ length: count }, (_unused, number) => message(number));
const open = (url: string): Promise<EventLink> => EventLink.open(createEventClient(parseEventAddress(url)));

/** What Nest's consumers need to get the whole event: as README.md has it. */
const cloudEvents = {
  deserialize(value: { type: string } | { json(): { type: string } }) {
    const data = 'json' in value ? value.json() : value;
    return { pattern: data.type, data };
  },
};

const heard: unknown[] = [];

@Controller()
class Consumer {
  @EventPattern('device.data.received')
  take(@Payload() event: unknown): void {
    heard.push(event);
  }
}

@Module({ controllers: [Consumer] })
class Ward {}

function consumerOptions(system: TestedEventSystem, address: string): MicroserviceOptions {
  const url = new URL(address);
  const deserializer = cloudEvents;
  switch (system) {
    case 'NATS':
      return {
        transport: Transport.NATS,
        options: { servers: [url.host], user: url.username, pass: url.password, deserializer },
      };
    case 'RabbitMQ':
      return {
        transport: Transport.RMQ,
        options: { urls: [address], exchange: 'events', wildcards: true, queue: 'ward', deserializer },
      };
    case 'Redis':
      return {
        transport: Transport.REDIS,
        options: { host: url.hostname, port: Number(url.port), password: url.password, deserializer },
      };
  }
}

const systems = EventServer.installed();

describe.each(systems)('%s', (system) => {
  let server: EventServer;

  beforeAll(async () => {
    server = await EventServer.prepare(system);
    await server.start();
  });
  afterAll(async () => {
    await server.remove();
  });

  it('is heard by a Nest service under the type of the event', async () => {
    const consumer: INestMicroservice = await NestFactory.createMicroservice<MicroserviceOptions>(Ward, {
      ...consumerOptions(system, server.url),
      logger: false,
      abortOnError: false,
    });
    await consumer.listen();
    const link = await open(server.url);
    heard.length = 0;
    // A subscription may be on its way.
    await until('the consumer to hear', async () => {
      await link.handOver([message(1)]);
      return heard.length > 0;
    });
    expect(heard[0]).toEqual({ id: '1', type: 'device.data.received', data: { number: 1 } });
    link.close('the test is over');
    await consumer.close();
  });

  it('gets thousands together, in their order', async () => {
    const listener = await server.listen();
    const link = await open(server.url);
    await link.handOver(messages(5_000));
    await until('all of them', () => listener.received.length === 5_000);
    expect(listener.received.map(({ text }) => text)).toEqual(messages(5_000).map(({ text }) => text));
    link.close('the test is over');
    await listener.close();
  });

  it('that does not know the password is no connection, and says nothing of it', async () => {
    const url = new URL(server.url);
    url.password = 'words-that-are-wrong';
    const error = await open(url.href).then(
      () => null,
      (reason: unknown) => reason,
    );
    expect(error).not.toBeNull();
    expect(String((error as { err?: unknown }).err ?? error)).not.toContain('words-that-are-wrong');
  });

  it('that goes away ends the link, and what is under way with it', async () => {
    const link = await open(server.url);
    const stopped = server.stop();
    await link.ended;
    await expect(link.handOver(messages(1))).rejects.toThrow();
    await stopped;
    await expect(open(server.url)).rejects.toBeDefined();
    await server.start();
  });
});

const only = (system: TestedEventSystem): jest.Describe =>
  systems.includes(system) ? describe : describe.skip;

only('NATS')('NATS', () => {
  let server: EventServer;

  beforeAll(async () => {
    server = await EventServer.prepare('NATS');
    await server.start();
  });
  afterAll(async () => {
    await server.remove();
  });

  it('has not taken what it does not permit, though it answers', async () => {
    const link = await open(server.url);
    await expect(link.handOver([message(1, 'denied.type')])).rejects.toThrow(/permission/i);
    expect((await link.ended).message).toMatch(/permission/i);
  });

  it('says how large an event may be', async () => {
    const link = await open(server.url);
    // The server's own limit.
    expect(link.maxBytes).toBe(1_048_576);
    link.close('the test is over');
  });

  it('is not told anything in plaintext where TLS was asked for', async () => {
    await expect(open(server.url.replace('nats://', 'nats+tls://'))).rejects.toThrow(/tls/i);
  });
});

only('RabbitMQ')('RabbitMQ', () => {
  let server: EventServer;

  beforeAll(async () => {
    server = await EventServer.prepare('RabbitMQ');
    await server.start();
  });
  afterAll(async () => {
    await server.remove();
  });

  it('with another exchange of that name is no connection', async () => {
    const connection = await connectRabbitMq(server.url);
    const channel = await connection.createChannel();
    await channel.assertExchange('events', 'direct', { durable: true });
    await connection.close();
    await expect(open(server.url)).rejects.toThrow(/PRECONDITION_FAILED/);
  });
});
