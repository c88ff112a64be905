import fc from 'fast-check';
import { DomainError, EVENT_TYPES } from '#kernel';
import type { StreamFilter } from '../domain/stream-filter.js';
import { StreamPosition } from '../domain/stream-position.js';
import { parseClientMessage } from './live-message.js';

const subscribe = (data: unknown): string => JSON.stringify({ event: 'subscribe', data });

describe('parseClientMessage', () => {
  it.each([
    ['{"event":"ping"}', { event: 'ping' }],
    ['{"event":"ping","data":null,"id":7}', { event: 'ping' }],
    ['{"event":"unsubscribe","data":{}}', { event: 'unsubscribe' }],
    ['{"event":"authenticate","data":{"token":"a.b.c"}}', { event: 'authenticate', token: 'a.b.c' }],
    [
      '{"event":"subscribe","data":{"since":"2.71.0.8_x-Y_z"}}',
      {
        event: 'subscribe',
        filter: {},
        since: new StreamPosition(2, 71, 0, 8),
        echo: { since: '2.71.0.8_x-Y_z' },
      },
    ],
    ['{"event":"subscribe"}', { event: 'subscribe', filter: {}, since: null, echo: {} }],
  ])('reads %s', (text, message) => {
    expect(parseClientMessage(text)).toEqual(message);
  });

  it('takes every type of event, and a metric that is not known', () => {
    const { filter } = parseClientMessage(
      subscribe({ events: EVENT_TYPES, metric_types: ['unheard_of'] }),
    ) as {
      filter: StreamFilter;
    };
    expect(filter).toEqual({ events: new Set(EVENT_TYPES), metricTypes: new Set(['unheard_of']) });
  });

  it('names the field and the reason', () => {
    const message = 'is not a list of up to 1000 types of events';
    expect(() => parseClientMessage(subscribe({ events: ['x'] }))).toThrow(
      expect.objectContaining<Partial<DomainError>>({
        message: `data.events ${message}.`,
        errors: [{ field: 'events', message }],
      }),
    );
  });

  it('reads what a client subscribes to, a panel with its members', () => {
    const data = {
      device_ids: ['device_123'],
      patient_ids: [1],
      metric_types: ['blood_pressure', 'spo2'],
      events: ['device.data.received'],
    };
    expect(parseClientMessage(subscribe(data))).toEqual({
      event: 'subscribe',
      echo: data,
      since: null,
      filter: {
        deviceIds: new Set(['device_123']),
        patientIds: new Set([1]),
        metricTypes: new Set(['blood_pressure', 'spo2', 'systolic', 'diastolic', 'mean_arterial_pressure']),
        events: new Set(['device.data.received']),
      },
    });
  });

  it.each([
    ['', 'invalid_json'],
    ['ping', 'invalid_json'],
    ['{"event":', 'invalid_json'],
    ['null', 'invalid_message'],
    ['[]', 'invalid_message'],
    ['"ping"', 'invalid_message'],
    ['{}', 'invalid_message'],
    ['{"event":1}', 'invalid_message'],
    ['{"event":"Ping"}', 'unknown_event'],
    ['{"event":"toString"}', 'unknown_event'],
    ['{"event":"ping","data":[]}', 'invalid_message'],
    ['{"event":"ping","__proto__":{}}', 'invalid_message'],
    ['{"event":"authenticate"}', 'invalid_message'],
    ['{"event":"authenticate","data":{"token":1}}', 'invalid_message'],
    [subscribe({ since: 7 }), 'invalid_message'],
    [subscribe({ since: 'x2.71.0.8' }), 'since_unknown'],
    [subscribe({ since: '2.71.0' }), 'since_unknown'],
    [subscribe({ devices: ['device_123'] }), 'invalid_message'],
    [subscribe({ device_ids: 'device_123' }), 'invalid_message'],
    [subscribe({ device_ids: ['a/b'] }), 'invalid_message'],
    [subscribe({ device_ids: null }), 'invalid_message'],
    [subscribe({ patient_ids: ['1'] }), 'invalid_message'],
    [subscribe({ patient_ids: [0] }), 'invalid_message'],
    [subscribe({ patient_ids: [1.5] }), 'invalid_message'],
    [subscribe({ patient_ids: [1, 2_147_483_648] }), 'invalid_message'],
    [subscribe({ metric_types: [1] }), 'invalid_message'],
    [subscribe({ events: [null] }), 'invalid_message'],
    [subscribe({ events: ['device.data.received', 'device.data.recieved'] }), 'invalid_message'],
    [subscribe({ events: ['__proto__'] }), 'invalid_message'],
    [subscribe({ events: [''] }), 'invalid_message'],
    [subscribe({ metric_types: ['Heart Rate'] }), 'invalid_message'],
    [subscribe({ metric_types: ['__proto__'] }), 'invalid_message'],
    [subscribe({ metric_types: ['spo2,weight'] }), 'invalid_message'],
    [subscribe({ metric_types: ['a'.repeat(101)] }), 'invalid_message'],
  ])('refuses %s', (text, code) => {
    expect(() => parseClientMessage(text)).toThrow(
      expect.objectContaining<Partial<DomainError>>({ kind: 'invalid', code }),
    );
  });

  it.each([
    ['deep nesting', `{"event":"ping","data":{"a":${'['.repeat(5_000)}${']'.repeat(5_000)}}}`],
    ['a long list', subscribe({ metric_types: Array.from({ length: 1_001 }, () => 'x') })],
  ])('refuses %s', (_what, text) => {
    expect(() => parseClientMessage(text)).toThrow(
      expect.objectContaining<Partial<DomainError>>({ code: 'invalid_message' }),
    );
  });

  it('answers any text with a message or a refusal, and never fails otherwise', () => {
    const value = fc.oneof(fc.jsonValue({ maxDepth: 2 }), fc.array(fc.jsonValue({ maxDepth: 1 })));
    const data = fc.record(
      {
        device_ids: value,
        patient_ids: value,
        metric_types: value,
        events: value,
        since: value,
        token: value,
      },
      { requiredKeys: [] },
    );
    const event = fc.constantFrom('authenticate', 'subscribe', 'unsubscribe', 'ping', '__proto__');
    const messages = fc.record({ event: fc.oneof(event, value), data: fc.oneof(data, value) });
    const texts = fc.oneof(
      fc.string(),
      fc.json(),
      messages.map((message) => JSON.stringify(message)),
    );
    fc.assert(
      fc.property(texts, (text) => {
        try {
          parseClientMessage(text);
        } catch (error) {
          if (!(error instanceof DomainError)) throw error;
          expect(error.kind).toBe('invalid');
        }
      }),
    );
  });
});
