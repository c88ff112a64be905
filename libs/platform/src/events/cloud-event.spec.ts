import type { DomainEvent } from '#kernel';
import { cloudEventJson } from './cloud-event.js';

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
