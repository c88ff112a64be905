import { setTimeout as sleep } from 'node:timers/promises';
import { connectAsync, type IClientOptions, type MqttClient } from 'mqtt';
import type { Mosquitto } from '../support/mosquitto.js';
import { malformed } from './malformed.js';

/** Messages a device has published and not yet been acknowledged, at most. */
const WINDOW = 200;
const TICK_MS = 10;
const RECONNECT_MS = 50;
const DAY_MS = 86_400_000;

/** What a device sends. */
export type Kind = 'dated' | 'undated' | 'ecg' | 'repeated' | 'ahead' | 'malformed';

/** A device of the load: what it is registered as, and how it makes its messages. */
interface Model {
  readonly type: string;
  /** The rows each message becomes, by metric; `ecg` is a waveform, `rejected` a row of the quarantine. */
  readonly rows: readonly string[];
  /** How many times it publishes each message. */
  readonly copies: number;
  readonly payload: (number: number, id: string) => Buffer;
}

const PRESSURE = { type: 'blood_pressure_monitor', rows: ['diastolic', 'heart_rate', 'systolic'], copies: 1 };

/** What message number n of a blood pressure monitor measured: a mix-up would show. */
export const systolicOf = (number: number): number => 100 + (number % 100);

const pressure = (number: number, message: string, timestamp?: number): Buffer =>
  json({
    metric_type: 'blood_pressure',
    systolic: systolicOf(number),
    diastolic: 80,
    heart_rate: 72,
    message,
    ...(timestamp !== undefined && { timestamp: new Date(timestamp + number).toISOString() }),
  });
const json = (document: unknown): Buffer => Buffer.from(JSON.stringify(document));

export const MODELS: Readonly<Record<Kind, Model>> = {
  dated: { ...PRESSURE, payload: (number, id) => pressure(number, id, Date.now() - DAY_MS) },
  undated: { ...PRESSURE, payload: (number, id) => pressure(number, id) },
  repeated: { ...PRESSURE, copies: 3, payload: (number, id) => pressure(number, id, Date.now() - DAY_MS) },
  ahead: {
    ...PRESSURE,
    rows: ['rejected'],
    payload: (number, id) => pressure(number, id, Date.now() + DAY_MS),
  },
  malformed: { ...PRESSURE, rows: ['rejected'], payload: (number, id) => malformed(number, id) },
  ecg: {
    type: 'ecg_monitor',
    rows: ['ecg'],
    copies: 1,
    payload: (number, message) =>
      json({
        metric_type: 'ecg',
        lead: 'II',
        sampling_rate: 250,
        unit: 'mV',
        samples: [number / 100_000, 0.1, 0.9, -0.2],
        timestamp: new Date(Date.now() - DAY_MS + number).toISOString(),
        message,
      }),
  },
};

/**
 * One device that publishes at QoS 1 and logs what the broker has acknowledged. It hands each message to the broker once:
 * what is not acknowledged when its connection ends is forgotten, so that a message that is stored twice was stored
 * twice by the service.
 */
export class Publisher {
  /** Ids of acknowledged messages. */
  readonly acknowledged: string[] = [];
  private sent = 0;
  private inFlight = 0;
  private stopped = false;
  private client: MqttClient | undefined;
  private readonly loop: Promise<void>;

  constructor(
    private readonly broker: Mosquitto,
    readonly deviceId: string,
    readonly kind: Kind,
    private readonly perSecond: number,
  ) {
    this.loop = this.run();
  }

  /** Publishes no more; resolves when what is under way is acknowledged or given up. */
  async stop(): Promise<void> {
    this.stopped = true;
    await this.loop;
  }

  private async run(): Promise<void> {
    while (!this.stopped) {
      try {
        this.client = await connectTo(this.broker, {});
        await this.publishOn(this.client);
      } catch {
        // The broker is away: part of the exercise.
        await sleep(RECONNECT_MS);
      } finally {
        await this.client?.endAsync(true);
      }
    }
  }

  private async publishOn(client: MqttClient): Promise<void> {
    let open = true;
    this.inFlight = 0;
    client.on('close', () => {
      open = false;
    });
    client.on('error', () => undefined);
    let due = 0;
    let last = performance.now();
    while (open) {
      const now = performance.now();
      due += ((now - last) / 1_000) * this.perSecond;
      last = now;
      if (this.stopped && this.inFlight === 0) return;
      for (; !this.stopped && due >= 1 && this.inFlight < WINDOW; due -= 1) this.publishOne(client);
      due = Math.min(due, WINDOW);
      await sleep(TICK_MS);
    }
  }

  private publishOne(client: MqttClient): void {
    this.sent += 1;
    const id = `${this.deviceId}/${this.sent}`;
    const { payload, copies } = MODELS[this.kind];
    const bytes = payload(this.sent, id);
    const topic = `devices/${this.deviceId}/data`;
    this.inFlight += 1;
    client.publish(topic, bytes, { qos: 1 }, (error) => {
      if (error) return;
      this.inFlight -= 1;
      this.acknowledged.push(id);
    });
    for (let copy = 1; copy < copies; copy += 1) client.publish(topic, bytes, { qos: 1, dup: copy > 1 });
  }
}

/** A client of the broker that does not come back by itself. */
export async function connectTo(broker: Mosquitto, options: IClientOptions): Promise<MqttClient> {
  const { port, username, password } = broker;
  return connectAsync(
    `mqtt://127.0.0.1:${port}`,
    { username, password, reconnectPeriod: 0, ...options },
    false,
  );
}
