import type { MqttClient } from 'mqtt';
import type { Service } from './service.js';

/** A command as it arrives. */
export interface ReceivedCommand {
  readonly deviceId: string;
  readonly commandId: string;
  readonly body: Readonly<Record<string, unknown>>;
}

/** What a device says to a command: the statuses, in order. */
export type Manners = readonly ('acknowledged' | 'completed' | 'failed')[];

/** Devices that share one connection, listen to their commands, and answer as they are told to. */
export class FakeDevices {
  readonly received: ReceivedCommand[] = [];

  private constructor(
    readonly client: MqttClient,
    private readonly manners: Manners,
  ) {
    client.on('message', (topic, payload) => this.receive(topic, payload));
  }

  /** Connected and subscribed, and offline as far as the service knows. */
  static async of(service: Pick<Service, 'mqtt'>, manners: Manners = []): Promise<FakeDevices> {
    // Through a restart of the broker, as a device would.
    const client = await service.mqtt({ reconnectPeriod: 100, clientId: crypto.randomUUID(), clean: false });
    const devices = new FakeDevices(client, manners);
    await client.subscribeAsync('devices/+/commands', { qos: 1 });
    return devices;
  }

  async online(...deviceIds: readonly string[]): Promise<void> {
    await Promise.all(deviceIds.map((deviceId) => this.say(deviceId, 'status', { status: 'online' })));
  }

  async say(deviceId: string, topic: 'status' | 'responses' | 'data', body: object): Promise<void> {
    await this.client.publishAsync(`devices/${deviceId}/${topic}`, JSON.stringify(body), { qos: 1 });
  }

  /** Ids of the commands a device has received, in order of arrival. */
  idsOf(deviceId: string): string[] {
    return this.received.filter((command) => command.deviceId === deviceId).map(({ commandId }) => commandId);
  }

  async end(): Promise<void> {
    await this.client.endAsync(true);
  }

  private receive(topic: string, payload: Buffer): void {
    const deviceId = topic.split('/')[1] ?? '';
    const body = JSON.parse(payload.toString('utf8')) as Record<string, unknown>;
    const commandId = String(body['command_id']);
    this.received.push({ deviceId, commandId, body });
    for (const status of this.manners) {
      this.client.publish(
        `devices/${deviceId}/responses`,
        JSON.stringify({ command_id: commandId, status }),
        { qos: 1 },
      );
    }
  }
}
