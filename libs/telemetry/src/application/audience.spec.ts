import fc from 'fast-check';
import { Principal, type DomainEvent, type EventType } from '#kernel';
import { mayHear, passes, type StreamFilter } from '../domain/stream-filter.js';
import { Audience, type FrameFormat, type Watcher } from './audience.js';

const FORMATS: readonly FrameFormat[] = [1, 2].map((size) => ({ encode: () => Buffer.alloc(size) }));
const DEVICES = ['a', 'b', 'c'];
const METRICS = ['systolic', 'diastolic', 'heart_rate'];
const TYPES: readonly EventType[] = [
  'device.data.received',
  'device.connected',
  'command.sent',
  'message.rejected',
];

const some = <T>(items: readonly T[]): fc.Arbitrary<ReadonlySet<T>> =>
  fc.subarray([...items]).map((chosen) => new Set(chosen));
const filters: fc.Arbitrary<StreamFilter> = fc.record(
  {
    deviceIds: some(DEVICES),
    patientIds: some([1, 2]),
    metricTypes: some(METRICS),
    events: some<string>(TYPES),
  },
  { requiredKeys: [] },
);
const principals = fc
  .record(
    {
      scope: fc.constantFrom('stream', 'stream commands:read', 'admin'),
      tenant: fc.constantFrom('north', 'south'),
      patient_id: fc.constantFrom(1, 2),
    },
    { requiredKeys: ['scope'] },
  )
  .map((claims) => Principal.fromClaims(claims));
const watchers: fc.Arbitrary<Watcher> = fc.record({
  principal: principals,
  filter: filters,
  format: fc.constantFrom(...FORMATS),
  send: fc.constant(() => undefined),
});
const events: fc.Arbitrary<DomainEvent> = fc
  .record({
    type: fc.constantFrom(...TYPES),
    deviceId: fc.constantFrom(...DEVICES, null),
    tenant: fc.constantFrom('north', 'default', null),
    patientId: fc.constantFrom(1, 2, null),
    measured: fc.subarray(METRICS),
  })
  .map(({ measured, ...event }) => ({
    ...event,
    id: 'id',
    time: '2024-01-23T10:30:00.000Z',
    data: { readings: measured.map((metric_type) => ({ metric_type })) },
  }));

describe('Audience', () => {
  it('finds exactly those who may and want to see an event, whoever has come and gone', () => {
    fc.assert(
      fc.property(
        fc.array(fc.tuple(watchers, fc.boolean()), { maxLength: 12 }),
        fc.array(events, { maxLength: 8 }),
        (comers, told) => {
          const audience = new Audience();
          for (const [watcher] of comers) audience.add(watcher);
          for (const [watcher, stays] of comers) if (!stays) audience.remove(watcher);
          const staying = comers.flatMap(([watcher, stays]) => (stays ? [watcher] : []));
          const found = new Map<Watcher, readonly number[]>();
          for (const [group, places] of audience.match(told)) {
            for (const [format, members] of group.members) {
              for (const member of members) {
                expect(member.format).toBe(format);
                expect(found.has(member)).toBe(false);
                found.set(member, places);
              }
            }
          }
          const due = staying.map((watcher) =>
            told.flatMap((event, place) =>
              mayHear(watcher.principal, event) && passes(watcher.filter, event) ? [place] : [],
            ),
          );
          expect(staying.map((watcher) => found.get(watcher) ?? [])).toEqual(due);
          expect(audience.size).toBe(staying.length);
        },
      ),
    );
  });

  it('keeps nothing of those who have gone', () => {
    fc.assert(
      fc.property(fc.array(watchers, { maxLength: 8 }), (comers) => {
        const audience = new Audience();
        const empty = JSON.stringify(audience, mapsToo);
        for (const watcher of comers) audience.add(watcher);
        for (const watcher of comers) audience.remove(watcher);
        expect(JSON.stringify(audience, mapsToo)).toBe(empty);
      }),
    );
  });
});

function mapsToo(_key: string, value: unknown): unknown {
  return value instanceof Map || value instanceof Set ? [...(value as Iterable<unknown>)] : value;
}
