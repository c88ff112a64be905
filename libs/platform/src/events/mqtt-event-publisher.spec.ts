import { EventBus, type DomainEvent } from '#kernel';
import type { Config } from '../config/config.js';
import type { MqttPublisher } from '../mqtt/mqtt-publisher.js';
import type { Outgoing } from '../mqtt/publish-lane.js';
import { MqttEventPublisher } from './mqtt-event-publisher.js';

const event = (note: string): DomainEvent => ({
  id: 'id',
  type: 'device.data.received',
  deviceId: 'device_123',
  tenant: 'default',
  patientId: 7,
  time: '2024-01-23T10:30:00.000Z',
  data: { metric_type: 'heart_rate', note },
});

describe('MqttEventPublisher', () => {
  it('publishes no event of more than 256 KiB whole', async () => {
    const sent: Outgoing[] = [];
    const bus = new EventBus(() => undefined);
    const publisher = {
      publishAll: (messages: readonly Outgoing[]) => Promise.resolve(void sent.push(...messages)),
    } as unknown as MqttPublisher;
    new MqttEventPublisher({ mqtt: { topics: { events: 'events' } } } as Config, publisher).attach(bus);
    await bus.publish([event('short'), event('x'.repeat(262_144))]);
    const [short, long] = sent.map(({ payload }) => JSON.parse(payload) as { id: string; data: unknown });
    expect(short?.data).toEqual({
      metric_type: 'heart_rate',
      note: 'short',
      device_id: 'device_123',
      patient_id: 7,
    });
    expect(long).toMatchObject({ id: 'id' });
    expect(long?.data).toEqual({
      metric_type: 'heart_rate',
      truncated: true,
      device_id: 'device_123',
      patient_id: 7,
    });
  });
});
