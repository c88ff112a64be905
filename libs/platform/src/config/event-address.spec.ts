import { parseEventAddress } from './event-address.js';

describe('EVENTS_URL', () => {
  it.each<[string, object]>([
    ['nats://localhost', { system: 'NATS', hosts: [{ host: 'localhost', port: 4222 }], tls: false }],
    [
      'nats+tls://token@a.example:1,[::1]:80,b.example',
      {
        system: 'NATS',
        hosts: [
          { host: 'a.example', port: 1 },
          { host: '::1', port: 80 },
          { host: 'b.example', port: 4222 },
        ],
        tls: true,
        username: 'token',
        password: undefined,
      },
    ],
    [
      'amqp://ward:p%40ss@w:or@d@rabbit.example/hospital%2F1',
      {
        system: 'RabbitMQ',
        hosts: [{ host: 'rabbit.example', port: 5672 }],
        username: 'ward',
        password: 'p@ss@w:or@d',
        virtualHost: 'hospital/1',
      },
    ],
    ['amqps://rabbit.example/', { hosts: [{ host: 'rabbit.example', port: 5671 }], virtualHost: undefined }],
    [
      'redis://:secret@127.0.0.1:7000/3',
      {
        system: 'Redis',
        hosts: [{ host: '127.0.0.1', port: 7000 }],
        username: undefined,
        password: 'secret',
        virtualHost: undefined,
      },
    ],
    ['rediss://cache.example', { hosts: [{ host: 'cache.example', port: 6379 }], tls: true }],
    [
      'kafka://a,b',
      { hosts: [9092, 9092].map((port, at) => ({ host: 'ab'[at], port })), mechanism: 'plain' },
    ],
    [
      'kafka+tls://u:p@a?sasl=scram-sha-512',
      { hosts: [{ host: 'a', port: 9093 }], tls: true, mechanism: 'scram-sha-512' },
    ],
  ])('is taken apart: %s', (text, expected) => {
    expect(parseEventAddress(text)).toMatchObject(expected);
  });

  it.each([
    'nats',
    'http://words-of-mine@host',
    'constructor://words-of-mine@host',
    'nats://',
    'nats://words-of-mine@',
    'nats://words-of-mine@host:port',
    'nats://words-of-mine@host:0',
    'nats://words-of-mine@host:65536',
    'nats://words-of-mine@host,',
    'nats://words-of-mine@host/path',
    'nats://words-of-mine@host?tls=true',
    'amqp://words-of-mine@a,b',
    'redis://words-of-mine@a,b',
    'redis://words-of-mine@host/name',
    'kafka://words-of-mine@host?sasl=none',
    'nats://words-of-mine%@host',
  ])('refuses %s, and does not say it again', (text) => {
    expect(() => parseEventAddress(text)).toThrow(/^expected(?!.*words-of-mine)/);
  });
});
