import type { DomainEvent } from '#kernel';
import { prepareFilter, tenantOf, wants, type WebhookFilter } from './webhook.js';

const EVERYTHING: WebhookFilter = { events: null, deviceIds: null, patientIds: null, metricTypes: null };
const EVENT: DomainEvent = {
  id: 'id',
  type: 'device.data.received',
  deviceId: 'device_123',
  tenant: 'north',
  patientId: 7,
  time: '2024-01-23T10:30:00.000Z',
  data: {
    metric_type: 'blood_pressure',
    readings: [{ metric_type: 'systolic' }, { metric_type: 'heart_rate' }],
  },
};
const panel = (names: readonly string[]): readonly string[] =>
  names.flatMap((name) => (name === 'blood_pressure' ? ['systolic', 'diastolic'] : [name]));

describe('what a webhook wants', () => {
  it.each<[string, Partial<WebhookFilter>, Partial<DomainEvent>, boolean]>([
    ['everything, unless it says otherwise', {}, {}, true],
    ['events of a type', { events: ['device.data.received'] }, {}, true],
    ['no events of another type', { events: ['device.connected'] }, {}, false],
    ['a device', { deviceIds: ['device_123'] }, {}, true],
    ['no other device', { deviceIds: ['device_124'] }, {}, false],
    ['nothing that names no device', { deviceIds: ['device_123'] }, { deviceId: null }, false],
    ['a patient', { patientIds: [7] }, {}, true],
    ['no other patient', { patientIds: [8] }, {}, false],
    ['nothing of nobody', { patientIds: [7] }, { patientId: null }, false],
    ['a metric by the name it was sent by', { metricTypes: ['blood_pressure'] }, {}, true],
    ['a metric among the readings', { metricTypes: ['heart_rate'] }, {}, true],
    [
      'a panel by its members',
      { metricTypes: ['blood_pressure'] },
      { data: { readings: [{ metric_type: 'diastolic' }] } },
      true,
    ],
    ['no other metric', { metricTypes: ['glucose'] }, {}, false],
    [
      'what measures nothing, whatever metrics it names',
      { metricTypes: ['glucose'] },
      { type: 'device.connected', data: {} },
      true,
    ],
    ['all of its filter at once', { deviceIds: ['device_123'], patientIds: [8] }, {}, false],
  ])('is %s', (_what, filter, event, expected) => {
    expect(wants(prepareFilter({ ...EVERYTHING, ...filter }, panel), { ...EVENT, ...event })).toBe(expected);
  });
});

describe('the tenant of an event', () => {
  it.each([
    ['north', 'north'],
    [null, 'default'],
  ])('%s is %s', (tenant, expected) => {
    expect(tenantOf({ ...EVENT, tenant })).toBe(expected);
  });
});
