import fc from 'fast-check';
import { eventData } from '#kernel';
import type { DeviceIdentity } from '#devices';
import { DataReceived } from './data-received.js';
import { decodeMessage } from './decode.js';

const RECEIVED = new Date('2024-01-23T10:30:00.000Z');
const device: DeviceIdentity = {
  deviceId: 'device_123',
  tenant: 'default',
  patientId: 7,
  patientSince: null,
  type: 'blood_pressure_monitor',
  decommissionedAt: null,
};

function eventsOf(payload: Record<string, unknown>, of: DeviceIdentity = device): DataReceived[] {
  return decodeMessage(payload, of, RECEIVED).map(
    (measurement, index) => new DataReceived(() => 'id', index, of, measurement, RECEIVED, null),
  );
}

describe('DataReceived', () => {
  it('carries the payload as sent, its readings, and whose they are', () => {
    const [event] = eventsOf({ metric_type: 'blood_pressure', systolic: 120, diastolic: 80, patient_id: 99 });
    expect(event).toMatchObject({ id: 'id', type: 'device.data.received', time: RECEIVED.toISOString() });
    expect(JSON.parse(event?.dataJson ?? '')).toEqual({
      metric_type: 'blood_pressure',
      systolic: 120,
      diastolic: 80,
      timestamp: '2024-01-23T10:30:00.000Z',
      readings: [
        { metric_type: 'systolic', value: 120, unit: 'mm[Hg]', timestamp: '2024-01-23T10:30:00.000Z' },
        { metric_type: 'diastolic', value: 80, unit: 'mm[Hg]', timestamp: '2024-01-23T10:30:00.000Z' },
      ],
      device_id: 'device_123',
      patient_id: 7,
    });
  });

  it.each<[string, Date, string | null, number | null]>([
    ['measured a moment before', RECEIVED, '2024-01-23T10:29:59.999999Z', null],
    ['measured at that moment', RECEIVED, '2024-01-23T10:30:00Z', 7],
    ['received before', new Date(RECEIVED.getTime() + 1), '2024-01-23T10:31:00Z', null],
    ['undated, received before', new Date(RECEIVED.getTime() + 1), null, null],
    ['undated', RECEIVED, null, 7],
  ])(
    'is of the patient the device was given to, but not what was %s',
    (_what, patientSince, timestamp, owner) => {
      const payload = { metric_type: 'heart_rate', value: 70, ...(timestamp !== null && { timestamp }) };
      const [event] = eventsOf(payload, { ...device, patientSince });
      expect(event?.patientId).toBe(owner);
      expect(JSON.parse(event?.dataJson ?? '')).toHaveProperty('patient_id', owner);
    },
  );

  it('has an id of its own for each measurement of a message', () => {
    const heartRate = { metric_type: 'heart_rate', value: 70 };
    expect(eventsOf({ readings: [heartRate, heartRate] }).map(({ id }) => id)).toEqual(['id', 'id.1']);
  });

  it('says the same as JSON as it does as data, whatever else the payload holds', () => {
    fc.assert(
      fc.property(
        fc.dictionary(
          fc.string({ unit: 'grapheme' }).filter((name) => name !== 'readings' && name !== '__proto__'),
          fc.jsonValue(),
        ),
        fc.double({ min: 90, max: 150, noNaN: true }),
        (besides, systolic) => {
          const known = {
            metric_type: 'blood_pressure',
            systolic,
            diastolic: 80,
            timestamp: '2024-01-23T10:30:00Z',
          };
          const reserved = new Set([
            'unit',
            'value',
            'metadata',
            'map',
            'pulse',
            'device_id',
            ...Object.keys(known),
          ]);
          const harmless = Object.fromEntries(
            Object.entries(besides).filter(([name]) => !reserved.has(name)),
          );
          for (const event of eventsOf({ ...harmless, ...known })) {
            expect(JSON.parse(event.dataJson)).toEqual(JSON.parse(JSON.stringify(eventData(event))));
          }
        },
      ),
    );
  });
});
