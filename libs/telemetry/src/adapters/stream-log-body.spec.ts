import { MicroDate, type DomainEvent } from '#kernel';
import type { DeviceIdentity } from '#devices';
import type { LogEntry, MessageEntry } from '../ports/stream-log.js';
import { packBatch, packEvent, unpackBatch, unpackEvent } from './stream-log-body.js';

const device: DeviceIdentity = {
  deviceId: 'data',
  tenant: 'default',
  patientId: 7,
  patientSince: null,
  type: 'ecg_monitor',
  decommissionedAt: null,
};
const given: DeviceIdentity = { ...device, deviceId: 'b', tenant: 'nörth', patientSince: new Date(1_000) };
const receivedAt = new MicroDate(1_706_005_800_000, 123);
const message = (place: number, text: string, more: Partial<MessageEntry> = {}): MessageEntry => ({
  place,
  topic: 'devices/data/data',
  payload: Buffer.from(text),
  device,
  receivedAt,
  dated: true,
  events: 1,
  ...more,
});
const event: DomainEvent = {
  id: 'x',
  type: 'message.rejected',
  deviceId: null,
  tenant: null,
  patientId: null,
  time: '2024-01-23T10:30:00.000Z',
  data: { detail: 'Sü"d' },
};

describe('a batch of the log', () => {
  it.each<[string, readonly LogEntry[]]>([
    ['one message', [message(1, '{}')]],
    ['no payload', [message(1, ''), message(2, '{"a":1}')]],
    [
      'places far up, with gaps',
      [message(900_000_000_000_000, '{"a":1}'), message(900_000_000_000_007, '{"a":2}')],
    ],
    [
      'devices of different owners, dates and topics',
      [
        message(1, '{"a":"ä"}'),
        message(2, '{"b":2}', { device: given, topic: 'ward/b/x', receivedAt: new Date(5), dated: false }),
        message(3, '{"c":3}', { topic: 'other/data', events: 1_000 }),
        message(4, '{"d":4}', { device: given, topic: 'ward/b/x' }),
      ],
    ],
    ['an event among them', [message(1, '{"a":1}'), { place: 2, event }, message(3, '{"b":2}')]],
    ['nothing but an event', [{ place: 4, event }]],
  ])('comes back as it was: %s', (_what, entries) => {
    const back = unpackBatch(packBatch(entries[0]?.place ?? 0, entries)).map((entry) => {
      if ('event' in entry) return entry;
      const { place, topic, payload, device: sender, dated, events } = entry;
      const received = entry.receivedAt.toISOString();
      return { place, topic, payload: Buffer.from(payload), device: sender, received, dated, events };
    });
    expect(back).toEqual(
      entries.map((entry) => {
        if ('event' in entry) return entry;
        const { receivedAt: date, ...rest } = entry;
        return { ...rest, received: date.toISOString() };
      }),
    );
  });

  it('names a message as it was named when it came', () => {
    const undated = message(1, '{}', { dated: false });
    const [dated, back] = unpackBatch(packBatch(1, [message(2, '{}'), undated])).map((entry) =>
      'event' in entry ? '' : entry.id(),
    );
    expect(dated).toHaveLength(43);
    expect(back).not.toBe(dated);
  });

  it('keeps one event alone', () => {
    expect(unpackEvent(packEvent(event))).toEqual(event);
  });
});
