import type { MqttClient } from 'mqtt';
import type { Service } from './service.js';

/** A device with a connection of its own, which names its session and leaves a will. */
export class MqttDevice {
  private constructor(
    private readonly client: MqttClient,
    readonly id: string,
    readonly session: string,
  ) {}

  /** Connects, and says that it is online. */
  static async connect(service: Service, id: string, session: string): Promise<MqttDevice> {
    const will = {
      topic: `devices/${id}/status`,
      payload: Buffer.from(JSON.stringify({ status: 'offline', session, will: true })),
      qos: 1 as const,
      retain: false,
    };
    const client = await service.mqtt({ clientId: `${id}-${session}`, will });
    client.on('error', () => undefined);
    const device = new MqttDevice(client, id, session);
    await device.say({ status: 'online', session });
    return device;
  }

  async say(status: object, retain = false): Promise<void> {
    await this.client.publishAsync(`devices/${this.id}/status`, JSON.stringify(status), { qos: 1, retain });
  }

  async weigh(value: number, more: object = {}, retain = false): Promise<void> {
    const payload = JSON.stringify({ metric_type: 'weight', value, unit: 'kg', ...more });
    await this.client.publishAsync(`devices/${this.id}/data`, payload, { qos: 1, retain });
  }

  /** Breaks the connection off: the broker publishes the will. */
  kill(): void {
    this.client.stream.destroy();
  }

  /** Says goodbye to the broker, which forgets the will. */
  async end(): Promise<void> {
    await this.client.endAsync(true);
  }
}
