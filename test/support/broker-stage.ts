import type { IClientOptions, MqttClient } from 'mqtt';
import { createDatabase, type TestDatabase } from './database.js';
import { Mosquitto } from './mosquitto.js';
import { Service } from './service.js';
import { until } from './until.js';

/** Who keeps devices to their own topics. */
export type BrokerKind =
  'the embedded broker' | 'Mosquitto with the shipped access rules' | 'Mosquitto with dynamic security';

/** The kinds of access there are on this machine; says which are missing. */
export function brokerKindsHere(): readonly BrokerKind[] {
  if (Mosquitto.hasDynsec)
    return [
      'the embedded broker',
      'Mosquitto with the shipped access rules',
      'Mosquitto with dynamic security',
    ];
  const missing = Mosquitto.installed ? 'its dynamic security plugin' : 'it';
  process.stderr.write(
    `Not all access to Mosquitto is tested: ${missing} is not installed (Debian: mosquitto)\n`,
  );
  return Mosquitto.installed
    ? ['the embedded broker', 'Mosquitto with the shipped access rules']
    : ['the embedded broker'];
}

/** A device's account. */
export interface Login {
  readonly username: string;
  readonly password: string;
  readonly clientId: string;
}

export const OWN = 'own_1';
export const OTHER = 'other_1';

/** A service, its broker, and two devices with accounts. */
export class BrokerStage {
  readonly logins = new Map<string, Login>();
  /** What the service's own account hears of everything: topic and payload. */
  readonly heard: string[] = [];
  private readonly open: MqttClient[] = [];

  private constructor(
    readonly kind: BrokerKind,
    readonly database: TestDatabase,
    readonly service: Service,
    readonly mosquitto: Mosquitto | null,
  ) {}

  static async of(kind: BrokerKind): Promise<BrokerStage> {
    const database = await createDatabase();
    const accounts = { [OWN]: 'password-of-own', [OTHER]: 'password-of-other' };
    const mosquitto =
      kind === 'the embedded broker'
        ? null
        : kind === 'Mosquitto with dynamic security'
          ? await Mosquitto.prepareDynsec()
          : await Mosquitto.prepareShipped(accounts);
    await mosquitto?.start();
    const access = kind === 'Mosquitto with dynamic security' ? { BROKER_ACCESS: 'mosquitto-dynsec' } : {};
    const service = await Service.start({ DATABASE_URL: database.url, ...mosquitto?.env, ...access });
    const stage = new BrokerStage(kind, database, service, mosquitto);
    for (const [id, password] of Object.entries(accounts)) {
      // The broker cuts the service off once, when it is first given what it needs.
      const { body } = await until(`${id} to be registered`, async () => {
        const answer = await service.register(id, 'weight_scale');
        return answer.status === 201 && answer;
      });
      stage.logins.set(
        id,
        body.credentials === undefined ? { username: id, password, clientId: id } : loginOf(body.credentials),
      );
    }
    const observer = await stage.connect({});
    observer.on('message', (topic, payload) => stage.heard.push(`${topic} ${payload.toString()}`));
    await observer.subscribeAsync(['#', '$SYS/forged', '$CONTROL/forged'], { qos: 1 }).catch(() => undefined);
    return stage;
  }

  get guarded(): boolean {
    return this.kind !== 'Mosquitto with the shipped access rules';
  }

  /** With the service's account unless told otherwise. */
  async connect(options: IClientOptions): Promise<MqttClient> {
    const port =
      options.username === undefined || options.username === 'mqtt_user'
        ? undefined
        : this.mosquitto?.devicePort;
    const client = await this.service.mqtt({ ...options, ...(port !== undefined && { port }) });
    client.on('error', () => undefined);
    this.open.push(client);
    return client;
  }

  async device(id: string, options: IClientOptions = {}): Promise<MqttClient> {
    return this.connect({ ...this.logins.get(id), ...options });
  }

  async hears(text: string): Promise<void> {
    await until(`"${text}"`, () => this.heard.includes(text));
  }

  /** Until everything before has arrived: what the device says after it has. */
  async settle(): Promise<void> {
    const text = `{"status":"online","session":"${crypto.randomUUID()}"}`;
    const device = await this.device(OWN);
    await device.publishAsync(`devices/${OWN}/status`, text, { qos: 1 });
    await this.hears(`devices/${OWN}/status ${text}`);
    await device.endAsync();
  }

  async end(): Promise<void> {
    await Promise.all(this.open.map((client) => client.endAsync(true)));
    await this.service.remove();
    await this.mosquitto?.remove();
    await this.database.drop();
  }
}

export function loginOf(credentials: { username: string; password: string; client_id: string }): Login {
  return { username: credentials.username, password: credentials.password, clientId: credentials.client_id };
}

/** Until a client is cut off. */
export const closed = (client: MqttClient): Promise<void> =>
  new Promise((resolve) => {
    if (client.connected) client.once('close', () => resolve());
    else resolve();
  });
