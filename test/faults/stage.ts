import type { MqttClient } from 'mqtt';
import { createDatabase, type TestDatabase } from '../support/database.js';
import { type Mosquitto } from '../support/mosquitto.js';
import type { PostgresServer } from '../support/postgres-server.js';
import { Service } from '../support/service.js';
import { TcpProxy } from '../support/tcp-proxy.js';
import { until } from '../support/until.js';
import { connectTo, MODELS, Publisher, systolicOf, type Kind } from './load.js';

const DRAIN_MS = 120_000;
const LOAD_MS = 300_000;
export type Fleet = readonly (readonly [Kind, number])[];
export const FLEET: Fleet = [
  ['dated', 400],
  ['dated', 300],
  ['undated', 200],
  ['ecg', 50],
];

/** What became of the messages of one scenario. */
export interface Verdict {
  /** Messages the broker had acknowledged to their device. */
  readonly acknowledged: number;
  /** Of these, how many the database does not hold whole. */
  readonly lost: number;
  /** Messages of which the database holds a row more than once. */
  readonly twice: number;
  /** Messages with a row of another device or value. */
  readonly mixed: number;
  /** Acknowledged messages that the broker's event topic never told of. */
  readonly untold: number;
}

interface StoredRow {
  readonly id: string;
  /** One entry a row: its metric, `ecg` or `rejected`. */
  readonly kept: readonly string[];
  readonly devices: readonly string[];
  readonly systolic: number | null;
}

/**
 * Everything a fault can befall: PostgreSQL, Mosquitto, the service between them, each way in between, and a fleet of
 * devices whose log of acknowledgements is what the database is held against.
 */
export class Stage {
  private publishers: Publisher[] = [];
  private listener: MqttClient | undefined;
  private listening = true;
  private told = new Set<string>();
  private round = 0;
  /** Further replicas of the service. */
  readonly others: Service[] = [];

  private constructor(
    readonly postgres: PostgresServer,
    readonly mosquitto: Mosquitto,
    readonly database: TestDatabase,
    readonly databaseWay: TcpProxy,
    readonly brokerWay: TcpProxy,
    readonly service: Service,
    readonly env: Readonly<Record<string, string>>,
  ) {}

  static async build(postgres: PostgresServer, mosquitto: Mosquitto): Promise<Stage> {
    await mosquitto.start();
    const database = await createDatabase(postgres.url);
    const databaseWay = await TcpProxy.to(database.url);
    const brokerWay = await TcpProxy.to(`mqtt://127.0.0.1:${mosquitto.port}`);
    await Promise.all([databaseWay.mend(), brokerWay.mend()]);
    const env = {
      ...mosquitto.env,
      DATABASE_URL: databaseWay.through(database.url),
      MQTT_BROKER_PORT: String(brokerWay.port),
      DATABASE_TIMEOUT: '3s',
      SHUTDOWN_TIMEOUT: '8s',
    };
    const service = await Service.start(env);
    const stage = new Stage(postgres, mosquitto, database, databaseWay, brokerWay, service, env);
    await stage.listen();
    return stage;
  }

  async strike(): Promise<void> {
    await this.stopLoad();
    this.listening = false;
    await this.listener?.endAsync(true);
    await Promise.all(this.others.map((replica) => replica.remove()));
    await this.service.remove();
    await this.databaseWay.cut();
    await this.brokerWay.cut();
    await this.database.drop();
  }

  /** Registers devices of this round's own. @returns their ids. */
  async register(kinds: readonly Kind[]): Promise<readonly string[]> {
    this.round += 1;
    const ids = kinds.map((kind, index) => `r${this.round}-${kind}-${index}`);
    for (const [index, kind] of kinds.entries()) {
      // The service may still be finding out which of its connections are dead; what is done is not done twice.
      await until('the registration', async () =>
        [201, 409].includes((await this.service.register(ids[index] ?? '', MODELS[kind].type)).status),
      );
    }
    return ids;
  }

  /** A fleet begins to publish: of each device what it sends, and how often a second. */
  async startLoad(fleet: Fleet = FLEET): Promise<void> {
    await this.untilListening();
    this.told = new Set();
    const ids = await this.register(fleet.map(([kind]) => kind));
    this.publishers = fleet.map(
      ([kind, perSecond], index) => new Publisher(this.mosquitto, ids[index] ?? '', kind, perSecond),
    );
    await this.untilAcknowledged(100);
  }

  /** The fleet publishes no more. */
  async stopLoad(): Promise<void> {
    await Promise.all(this.publishers.map((publisher) => publisher.stop()));
  }

  /** Waits until the broker has acknowledged so many messages more, of some kinds where they are named. */
  async untilAcknowledged(more: number, kinds?: readonly Kind[]): Promise<void> {
    const devices = this.publishers.filter(({ kind }) => !kinds || kinds.includes(kind));
    const count = (): number => devices.reduce((sum, { acknowledged }) => sum + acknowledged.length, 0);
    const target = count() + more;
    await until(`${more} more messages`, () => count() >= target, LOAD_MS);
  }

  /** The other system hears events. */
  async untilListening(): Promise<void> {
    await until('the listener', () => this.listener?.connected);
  }

  /** The one replica that has the session, with its subscriptions granted. */
  async active(): Promise<Service> {
    const replicas = [this.service, ...this.others];
    return until('one active replica', async () => {
      const health = await Promise.all(
        replicas.map((replica) => replica.get('/health/detailed').catch(() => null)),
      );
      const active = replicas.filter((_, index) => {
        const { role, subscriptions } = health[index]?.body?.details?.mqtt ?? {};
        return role === 'active' && subscriptions.length > 0;
      });
      return active.length === 1 && active[0];
    });
  }

  /** Ends the load, waits until the service has seen everything through, and holds the database against the log. */
  async verdict(): Promise<Verdict> {
    await this.stopLoad();
    await this.service.untilReady();
    await this.drained();
    const sent = this.publishers.flatMap(({ acknowledged, kind }) =>
      acknowledged.map((id) => ({ id, expected: MODELS[kind].rows })),
    );
    const rows = await this.stored(this.publishers.map(({ deviceId }) => deviceId));
    const all = [...rows.values()];
    // Told of before they are acknowledged; the listener may hear it a moment later.
    const untold = (): number =>
      sent.filter(({ id, expected }) => expected[0] !== 'rejected' && !this.told.has(id)).length;
    await until('the events', () => untold() === 0, 5_000).catch(() => undefined);
    return {
      acknowledged: sent.length,
      lost: sent.filter(({ id, expected }) => {
        const kept = rows.get(id)?.kept ?? [];
        return !expected.every((row) => kept.includes(row));
      }).length,
      twice: all.filter(({ kept }) => new Set(kept).size < kept.length).length,
      mixed: all.filter(isMixed).length,
      untold: untold(),
    };
  }

  /** A broker hands a session its messages in order: when the last has come through, so have the others. */
  async drained(): Promise<void> {
    const [scale = ''] = await this.register(['dated']);
    const client = await connectTo(this.mosquitto, {});
    await client.publishAsync(`devices/${scale}/data`, MODELS.dated.payload(0, 'last'), { qos: 1 });
    await client.endAsync();
    await until(
      'the last message, and nothing in hand',
      async () => {
        const [row] = await this.database.query('SELECT 1 FROM device_readings WHERE device_id = $1', [
          scale,
        ]);
        if (!row) return false;
        const inHand = await Promise.all(
          [this.service, ...this.others].map(
            async (replica) =>
              (await replica.get('/health/detailed')).body.details.ingest.in_flight as number,
          ),
        );
        return inHand.every((count) => count === 0);
      },
      DRAIN_MS,
    );
  }

  /** What the database holds of some devices, by message. */
  private async stored(deviceIds: readonly string[]): Promise<ReadonlyMap<string, StoredRow>> {
    const rows = await this.database.query<StoredRow>(
      `SELECT id, array_agg(kept) AS kept, array_agg(DISTINCT device_id::text) AS devices,
              (max(value) FILTER (WHERE kept = 'systolic'))::float AS systolic
       FROM (
         SELECT metadata->>'message' AS id, metric_type AS kept, device_id, value FROM device_readings
         UNION ALL SELECT metadata->>'message', 'ecg', device_id, NULL FROM device_waveforms
         UNION ALL SELECT substring(encode(payload, 'escape') FROM '"message":"([^"]+)"'), 'rejected', device_id, NULL
                   FROM rejected_messages
       ) AS stored
       WHERE device_id = ANY ($1) GROUP BY 1`,
      [deviceIds],
    );
    return new Map(rows.map((row) => [row.id, row]));
  }

  /** Another system, which hears the events over a durable session of its own. */
  private async listen(): Promise<void> {
    if (!this.listening) return;
    try {
      const client = await connectTo(this.mosquitto, { clientId: 'listener', clean: false });
      client.on('error', () => undefined);
      client.on('close', () => void this.listen());
      client.on('message', (_topic, payload) => {
        const { data } = JSON.parse(payload.toString()) as { data: { message?: unknown } };
        if (typeof data.message === 'string') this.told.add(data.message);
      });
      await client.subscribeAsync('events/device.data.received/+', { qos: 1 });
      this.listener = client;
    } catch {
      setTimeout(() => void this.listen(), 100);
    }
  }
}

function isMixed({ id, devices, systolic }: StoredRow): boolean {
  const [device, number] = id.split('/');
  if (devices.length !== 1 || devices[0] !== device) return true;
  return systolic !== null && systolic !== systolicOf(Number(number));
}
