import { Principal, type Claims, type DomainEvent } from '#kernel';
import { mayHear, NO_FILTER, passes, reachOf, type StreamFilter } from './stream-filter.js';

const measured: DomainEvent = {
  id: '1',
  type: 'device.data.received',
  deviceId: 'device_123',
  tenant: 'default',
  patientId: 1,
  time: '2024-01-23T10:30:00.000Z',
  data: {
    metric_type: 'blood_pressure',
    readings: [{ metric_type: 'systolic' }, { metric_type: 'diastolic' }, { metric_type: 'heart_rate' }],
  },
};
const waveform: DomainEvent = { ...measured, data: { metric_type: 'ecg', readings: [] } };
const connected: DomainEvent = { ...measured, type: 'device.connected', data: { status: 'online' } };
const stray: DomainEvent = {
  ...measured,
  type: 'message.rejected',
  deviceId: null,
  patientId: null,
  data: {},
};

const devices = (...ids: string[]): StreamFilter => ({ deviceIds: new Set(ids) });
const patients = (...ids: number[]): StreamFilter => ({ patientIds: new Set(ids) });
const metrics = (...types: string[]): StreamFilter => ({ metricTypes: new Set(types) });
const events = (...types: string[]): StreamFilter => ({ events: new Set(types) });

describe('passes', () => {
  it.each<[string, StreamFilter, DomainEvent, boolean]>([
    ['anything, unfiltered', NO_FILTER, stray, true],
    ['the device', devices('other', 'device_123'), measured, true],
    ['another device', devices('other'), measured, false],
    ['no device', devices('device_123'), stray, false],
    ['an empty list of devices', devices(), measured, false],
    ['the patient', patients(1), connected, true],
    ['another patient', patients(2), connected, false],
    ['no patient', patients(1), stray, false],
    ['the event', events('device.data.received'), measured, true],
    ['another event', events('device.connected'), measured, false],
    ['a metric that was measured', metrics('heart_rate'), measured, true],
    ['a panel by its name', metrics('blood_pressure'), measured, true],
    ['a metric that was not measured', metrics('spo2'), measured, false],
    ['a waveform', metrics('ecg'), waveform, true],
    ['a waveform where a metric is wanted', metrics('heart_rate'), waveform, false],
    ['an event that measures nothing', metrics('spo2'), connected, true],
    ['the device, of another patient', { ...devices('device_123'), ...patients(2) }, measured, false],
    ['the metric, of another device', { ...metrics('systolic'), ...devices('other') }, measured, false],
    [
      'all there is to ask for',
      { ...devices('device_123'), ...patients(1), ...metrics('systolic') },
      measured,
      true,
    ],
  ])('%s', (_what, filter, event, passed) => {
    expect(passes(filter, event)).toBe(passed);
  });
});

describe('what a token is told of', () => {
  const command: DomainEvent = { ...measured, type: 'command.sent', data: {} };
  const rejected: DomainEvent = { ...stray, deviceId: 'device_123', patientId: 1 };
  const tokens: readonly [Claims, readonly [measured: boolean, command: boolean, rejected: boolean]][] = [
    [{ role: 'admin' }, [true, true, true]],
    [{ role: 'admin', patient_id: 1 }, [true, true, false]],
    [{ role: 'clinician' }, [true, true, false]],
    [{ role: 'viewer' }, [true, false, false]],
    [{ role: 'patient', patient_id: 1 }, [true, false, false]],
    [{ role: 'patient', patient_id: 2 }, [false, false, false]],
    [{ scope: 'stream commands:read' }, [true, true, false]],
    [{ scope: 'stream' }, [true, false, false]],
    [{ role: 'admin', tenant: 'north' }, [false, false, false]],
  ];
  it.each(tokens)('is, for %j: %j', (claims, heard) => {
    const principal = Principal.fromClaims(claims);
    expect([measured, command, rejected].map((event) => mayHear(principal, event))).toEqual(heard);
  });

  it.each(tokens)('differs from another’s only where its reach does: %j', (claims, heard) => {
    const reach = reachOf(Principal.fromClaims(claims));
    const alike = tokens.filter(([others]) => reachOf(Principal.fromClaims(others)) === reach);
    expect(alike.map(([, others]) => others)).toEqual(alike.map(() => heard));
  });
});
