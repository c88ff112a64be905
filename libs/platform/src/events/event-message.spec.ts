import type { DomainEvent } from '#kernel';
import { EventMessage } from './event-message.js';

const event = (note: string): DomainEvent => ({
  id: 'id',
  type: 'device.data.received',
  deviceId: 'device_123',
  tenant: 'default',
  patientId: 7,
  time: '2024-01-23T10:30:00.000Z',
  data: { metric_type: 'heart_rate', note },
});

describe('EventMessage', () => {
  it('is the CloudEvent, and knows the device whose order it keeps', () => {
    const { type, deviceId, text, bytes } = EventMessage.of(event('\u20ac'));
    expect({ type, deviceId }).toEqual({ type: 'device.data.received', deviceId: 'device_123' });
    expect(JSON.parse(text)).toMatchObject({ specversion: '1.0', data: { note: '\u20ac', patient_id: 7 } });
    expect(bytes).toBeGreaterThan(Buffer.byteLength(text));
  });

  it('is no larger than 256 KiB', () => {
    const { text } = EventMessage.of(event('x'.repeat(262_144)));
    expect(JSON.parse(text)).toMatchObject({ id: 'id', data: { patient_id: 7, truncated: true } });
  });

  it('goes out as it is where it fits', () => {
    const message = EventMessage.of(event('short'));
    expect(message.within(Buffer.byteLength(message.text))).toBe(message);
  });

  it('is reduced for a system that accepts less, also when it has waited as a text', () => {
    const { type, deviceId, text } = EventMessage.of(event('x'.repeat(1_000)));
    const reduced = new EventMessage(type, deviceId, text).within(500);
    const { data, ...rest } = JSON.parse(text) as { data: unknown };
    expect(data).toMatchObject({ note: 'x'.repeat(1_000) });
    expect(JSON.parse(reduced?.text ?? '')).toEqual({
      ...rest,
      data: { device_id: 'device_123', patient_id: 7, metric_type: 'heart_rate', truncated: true },
    });
  });

  it('is not sent where even that is too large', () => {
    expect(EventMessage.of(event('short')).within(100)).toBeNull();
  });
});
