import type { DeviceIdentity } from '#devices';
import { decodeBounded } from './decode-bounded.js';
import { MAX_ENTRIES } from './decode.js';

const RECEIVED = new Date('2024-01-23T10:31:00.000Z');
const monitor: DeviceIdentity = {
  deviceId: 'device_123',
  tenant: 'default',
  patientId: 1,
  patientSince: null,
  type: 'blood_pressure_monitor',
  decommissionedAt: null,
};
const ecg: DeviceIdentity = { ...monitor, type: 'ecg_monitor' };
const beat = { metric_type: 'heart_rate', value: 70 };
const panel = { metric_type: 'blood_pressure', systolic: 120, diastolic: 80 };
const tooLarge = (readings: number): Error =>
  expect.objectContaining({
    reason: 'payload_too_large',
    message: `Its metadata, repeated for each of its ${readings} readings, takes more than 1 MiB.`,
  }) as Error;

const decode = (payload: Readonly<Record<string, unknown>>, device = monitor): number =>
  decodeBounded(payload, Buffer.byteLength(JSON.stringify(payload)), device, RECEIVED).length;
const upload = (count: number, entry: object, besides: object): Readonly<Record<string, unknown>> => ({
  ...besides,
  readings: Array.from({ length: count }, () => entry),
});

describe('decodeBounded', () => {
  it('takes a large message whose metadata stands once', () => {
    expect(decode({ ...beat, note: 'x'.repeat(250_000) })).toBe(1);
  });

  it('takes an upload whose shared fields are small', () => {
    expect(decode(upload(1_000, panel, { firmware: '1.2.3', note: 'x'.repeat(400) }))).toBe(1_000);
  });

  it('rejects shared fields that become too large with each entry', () => {
    expect(() => decode(upload(1_000, beat, { note: 'x'.repeat(200_000) }))).toThrow(tooLarge(1_000));
  });

  it('rejects shared fields that the metadata hides: the events tell of them', () => {
    const payload = upload(1_000, beat, { note: 'x'.repeat(200_000), metadata: { note: '' } });
    expect(() => decode(payload)).toThrow(tooLarge(1_000));
  });

  it('counts each reading of a panel', () => {
    expect(decode(upload(1_000, beat, { note: 'x'.repeat(900) }))).toBe(1_000);
    expect(() => decode(upload(1_000, panel, { note: 'x'.repeat(900) }))).toThrow(tooLarge(2_000));
  });

  it('counts what a converted value keeps of its original', () => {
    const converted = { ...panel, systolic: 16, diastolic: 10, unit: 'kPa' };
    expect(() => decode(upload(1_000, converted, { note: 'x'.repeat(520) }))).toThrow(tooLarge(2_000));
  });

  it('counts the metadata of waveforms', () => {
    const segment = { metric_type: 'ecg', lead: 'II', sampling_rate: 250, samples: [0.1], note: [1e20] };
    expect(decode(upload(900, segment, {}), ecg)).toBe(900);
    const note = Array.from({ length: 50 }, () => 1e20);
    expect(() => decode(upload(1_000, { ...segment, note }, {}), ecg)).toThrow(tooLarge(1_000));
  });

  it('leaves too many entries, and what is small, to the decoder', () => {
    const many = upload(MAX_ENTRIES + 1, beat, { note: 'x'.repeat(2_000) });
    expect(() => decode(many)).toThrow(expect.objectContaining({ reason: 'invalid_payload' }) as Error);
    expect(decode(beat)).toBe(1);
  });
});
