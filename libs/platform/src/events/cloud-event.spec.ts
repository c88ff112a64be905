import type { DomainEvent } from '#kernel';
import { cloudEventJson, fits, reducedCloudEventJson } from './cloud-event.js';

const event: DomainEvent = {
  id: 'id "1"',
  type: 'device.data.received',
  deviceId: 'device_123',
  tenant: 'default',
  patientId: 7,
  time: '2024-01-23T10:30:00.000Z',
  data: { metric_type: 'heart_rate', note: 'says "72"\n\\', patient_id: 8 },
};

describe('cloudEventJson', () => {
  it('is a CloudEvent whose data says whose it is', () => {
    expect(JSON.parse(cloudEventJson(event))).toEqual({
      specversion: '1.0',
      id: 'id "1"',
      source: '/mqtt-service',
      type: 'device.data.received',
      subject: 'device_123',
      time: '2024-01-23T10:30:00.000Z',
      datacontenttype: 'application/json',
      data: { metric_type: 'heart_rate', note: 'says "72"\n\\', device_id: 'device_123', patient_id: 7 },
    });
  });

  it('has no subject where no device is known', () => {
    const nobody = JSON.parse(
      cloudEventJson({ ...event, type: 'message.rejected', deviceId: null }),
    ) as object;
    expect(nobody).not.toHaveProperty('subject');
    expect(nobody).toMatchObject({ type: 'message.rejected', data: { device_id: null } });
  });
});

describe('reducedCloudEventJson', () => {
  const readings = [
    { metric_type: 'heart_rate', value: 72, unit: '/min', timestamp: '2024-01-23T10:29:00Z' },
  ];
  const large: DomainEvent = {
    ...event,
    data: {
      note: 'x'.repeat(10_000),
      metric_type: 'heart_rate',
      timestamp: '2024-01-23T10:29:00Z',
      command_id: 'y'.repeat(10_000),
      patient_id: 8,
      readings,
    },
  };
  const reference = {
    device_id: 'device_123',
    patient_id: 7,
    metric_type: 'heart_rate',
    timestamp: '2024-01-23T10:29:00Z',
    truncated: true,
  };
  const head = { id: 'id "1"', type: 'device.data.received', subject: 'device_123', time: event.time };

  it('keeps whose it is, the readings and what finds the rest', () => {
    expect(JSON.parse(reducedCloudEventJson(large, 1_000))).toMatchObject({
      ...head,
      data: { ...reference, readings },
    });
    expect(reducedCloudEventJson(large, 1_000)).not.toMatch(/xxx|yyy/);
  });

  it('leaves readings out that do not fit', () => {
    const { data, ...rest } = JSON.parse(reducedCloudEventJson(large, 400)) as { data: unknown };
    expect(rest).toMatchObject(head);
    expect(data).toEqual(reference);
  });
});

describe('fits', () => {
  it.each([
    ['aaaa', 4, true],
    ['aaaaa', 4, false],
    ['\u20ac', 3, true],
    ['\u20ac\u20ac', 5, false],
    ['\u{1f600}', 4, true],
  ])('counts the bytes of %j against %i', (text, bytes, expected) => {
    expect(fits(text, bytes)).toBe(expected);
  });
});
