import { Injectable, Logger } from '@nestjs/common';
import { connect, type IClientOptions, type IClientPublishOptions, type MqttClient } from 'mqtt';
import { Config } from '../config/config.js';
import { errorCode } from '../database/database-errors.js';

const RECONNECT_MS = 1_000;
const CONNECT_TIMEOUT_MS = 10_000;
/** How long the broker keeps the session and its messages while the service is away (MQTT 5: seconds). */
const SESSION_EXPIRY_SECONDS = 7 * 86_400;

/** What the service needs to know of its connection. */
export interface MqttStatus {
  readonly connected: boolean;
  /** Topic filters the broker has granted at QoS 1 on this connection. */
  readonly subscriptions: readonly string[];
  /** Publishes of ours that the broker has not acknowledged yet. */
  readonly publishing: number;
}

/** Connection options that follow from the configuration, for the service and for `check:mqtt`. */
export function clientOptions(config: Config, clientId: string): IClientOptions {
  const { mqtt } = config;
  return {
    host: mqtt.host,
    port: mqtt.port,
    protocol: 'mqtt',
    protocolVersion: mqtt.protocolVersion,
    clientId,
    ...(mqtt.username !== undefined && { username: mqtt.username }),
    ...(mqtt.password !== undefined && { password: mqtt.password }),
    connectTimeout: CONNECT_TIMEOUT_MS,
  };
}

/**
 * The service's one connection to its broker, with a durable session: what devices publish while the service
 * is away waits in the broker. It reconnects for ever, also when the broker refuses it.
 */
@Injectable()
export class MqttConnection {
  private readonly logger = new Logger('Mqtt');
  private readonly granted = new Set<string>();
  private readonly connectedListeners: (() => void)[] = [];
  private client: MqttClient | undefined;
  private publishing = 0;

  constructor(private readonly config: Config) {}

  /** Begins to connect and returns the client at once; it may take for ever. */
  open(): MqttClient {
    const { mqtt } = this.config;
    const client = connect({
      ...clientOptions(this.config, mqtt.clientId),
      // The embedded broker keeps sessions in memory only, and for durable ones loses the connection over a topic
      // with an empty level (aedes 1.2.0).
      clean: mqtt.embedded,
      // The transport subscribes at every connect: a broker may have lost a durable session.
      resubscribe: false,
      reconnectPeriod: RECONNECT_MS,
      reconnectOnConnackError: true,
      ...(mqtt.protocolVersion === 5 && {
        properties: { receiveMaximum: mqtt.inflight, sessionExpiryInterval: SESSION_EXPIRY_SECONDS },
      }),
    });
    this.client = client;
    let lastProblem = '';
    client.on('error', (error) => {
      const problem = errorCode(error) ?? error.message;
      if (problem !== lastProblem) {
        this.logger.warn(
          `Broker ${mqtt.host}:${mqtt.port} not usable (${problem}: ${error.message}); trying again every second`,
        );
      }
      lastProblem = problem;
    });
    client.on('connect', () => {
      lastProblem = '';
      this.logger.log(`Connected to ${mqtt.host}:${mqtt.port} as ${mqtt.clientId}`);
    });
    client.on('close', () => this.granted.clear());
    return client;
  }

  get status(): MqttStatus {
    return {
      connected: this.client?.connected ?? false,
      subscriptions: [...this.granted].sort(),
      publishing: this.publishing,
    };
  }

  /** Called by the transport when the broker has granted a subscription. */
  subscriptionGranted(filter: string): void {
    this.granted.add(filter);
  }

  /** Calls back each time the connection stands and every subscription is granted. */
  onSubscribed(listener: () => void): void {
    this.connectedListeners.push(listener);
  }

  /** Called by the transport once all is subscribed. */
  announceSubscribed(): void {
    for (const listener of this.connectedListeners) listener();
  }

  /**
   * Publishes at QoS 1. Resolves when the broker has taken the message; while the broker is away it waits,
   * and goes out at the next connection.
   * @throws when the connection is being closed for good.
   */
  async publish(topic: string, payload: string, options: IClientPublishOptions = {}): Promise<void> {
    if (!this.client) throw new Error('the MQTT connection is not open');
    this.publishing += 1;
    try {
      await this.client.publishAsync(topic, payload, { ...options, qos: 1 });
    } finally {
      this.publishing -= 1;
    }
  }

  /** Disconnects and keeps the session in the broker, so that it goes on collecting. */
  async close(): Promise<void> {
    const { client } = this;
    if (!client) return;
    // A DISCONNECT packet, so that no will is due; forced, because publishes that wait for a lost broker never end.
    await client.endAsync(!client.connected);
  }
}
