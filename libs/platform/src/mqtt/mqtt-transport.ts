import { Injectable, Logger } from '@nestjs/common';
import { MqttContext, ServerMqtt, type Deserializer, type IncomingEvent } from '@nestjs/microservices';
import type { IPublishPacket, MqttClient, Packet } from 'mqtt';
import { Config } from '../config/config.js';
import { AckWindow } from './ack-window.js';
import { INBOUND, type Delivery, type InboundChannel } from './delivery.js';
import { MqttConnection } from './mqtt-connection.js';
import { DeviceTopic } from './topic-filter.js';

const RESUBSCRIBE_MS = 5_000;
/** MQTT 5, section 3.8.3.1: retained messages only when the subscription is new. */
const RETAINED_IF_NEW = 1;

interface Route {
  readonly channel: InboundChannel;
  readonly topic: DeviceTopic;
}

/**
 * Hands Nest the raw micro-batch as it is. Nest's own deserializer unwraps payloads that have a `data` or
 * `pattern` key and turns bytes into text; a measurement may have such a key, and may be no text at all.
 */
class DeliveryDeserializer implements Deserializer<readonly Delivery[], IncomingEvent> {
  deserialize(deliveries: readonly Delivery[], options?: Record<string, unknown>): IncomingEvent {
    return { pattern: options?.['channel'], data: deliveries };
  }
}

/** mqtt.js keeps to itself what an acknowledgement of our own needs (pinned version, contract-tested). */
interface PacketSender {
  _sendPacket(packet: Packet): void;
}

/**
 * Nest's MQTT server with the acknowledgement in our hands. mqtt.js acknowledges a message as soon as its
 * listener returns; here a message is acknowledged when its {@link Delivery.ack} is called, in the order of
 * arrival, and only on the connection that delivered it. What arrives together is handed to the
 * `@EventPattern(INBOUND.*)` handler together, so that Nest's pipeline is paid once a micro-batch.
 */
@Injectable()
export class MqttTransport extends ServerMqtt {
  protected override readonly logger = new Logger('Mqtt');
  private readonly routes: readonly Route[];
  private readonly arrived = new Map<InboundChannel, Delivery[]>();
  private window = new AckWindow(() => undefined);
  private readonly drains: (() => Promise<void>)[] = [];
  private handingOver = false;
  private intake = true;

  constructor(
    config: Config,
    private readonly connection: MqttConnection,
  ) {
    super({ deserializer: new DeliveryDeserializer() });
    const { topics } = config.mqtt;
    this.routes = (['data', 'status', 'responses'] as const).map((channel) => ({
      channel,
      topic: new DeviceTopic(topics[channel]),
    }));
  }

  /** Messages taken from the broker and not yet acknowledged. */
  get unacknowledged(): number {
    return this.window.size;
  }

  /** How long the oldest of them has waited, in milliseconds. */
  get lag(): number {
    return this.window.lag;
  }

  /** Adds work that must be finished before the connection may close. */
  onDrain(finish: () => Promise<void>): void {
    this.drains.push(finish);
  }

  /** Resolves when every handler has finished what it had begun. Stop the intake first. */
  async drain(): Promise<void> {
    await Promise.all(this.drains.map((finish) => finish()));
  }

  /** Takes nothing more in: what still arrives stays unacknowledged and is the broker's to deliver again. */
  stopIntake(): void {
    this.intake = false;
    this.arrived.clear();
  }

  /** Does not wait for the broker, which may be down for long: the service is of use without it. */
  override async listen(callback: (error?: unknown) => void): Promise<void> {
    this.mqttClient = await this.createMqttClient();
    this.bindEvents(this.mqttClient as MqttClient);
    callback();
  }

  override createMqttClient(): Promise<MqttClient> {
    return Promise.resolve(this.connection.open());
  }

  override bindEvents(client: MqttClient): void {
    const sender = client as unknown as PacketSender;
    client.handleMessage = (packet, done) => {
      this.receive(packet);
      // An error makes mqtt.js skip its PUBACK and go on with the stream (pinned version, contract-tested).
      done(packet.qos === 1 ? new Error('acknowledged later') : undefined);
    };
    client.on('connect', () => {
      this.window = new AckWindow((messageId) =>
        sender._sendPacket({ cmd: 'puback', messageId, reasonCode: 0 }),
      );
      this.subscribe(client);
    });
    client.on('close', () => {
      this.window.close();
      // Not handed over yet, so nobody else holds them; the broker delivers them again.
      this.arrived.clear();
    });
  }

  /** The connection is closed last, by the ordered stop: publishes of the modules still need it. */
  override close(): void {
    this.stopIntake();
  }

  private subscribe(client: MqttClient): void {
    const filters = this.routes.map((route) => route.topic.filter);
    const request = Object.fromEntries(
      filters.map((filter) => [filter, { qos: 1 as const, rh: RETAINED_IF_NEW }]),
    );
    client.subscribe(request, (error, granted) => {
      const refused = (granted ?? []).filter((grant) => grant.qos !== 1).map((grant) => grant.topic);
      const problem = refused.length > 0 ? refused.join(', ') : error?.message;
      if (problem !== undefined) {
        this.logger.error(`Subscription refused (${problem}); trying again in 5 s`);
        setTimeout(() => {
          if (client.connected) this.subscribe(client);
        }, RESUBSCRIBE_MS).unref();
        return;
      }
      for (const filter of filters) this.connection.subscriptionGranted(filter);
      this.connection.announceSubscribed();
    });
  }

  private receive(packet: IPublishPacket): void {
    if (!this.intake) return;
    const { channel, deviceId } = this.route(packet.topic);
    const delivery: Delivery = {
      topic: packet.topic,
      deviceId,
      payload: typeof packet.payload === 'string' ? Buffer.from(packet.payload) : packet.payload,
      packetId: packet.qos === 1 ? (packet.messageId ?? 0) : 0,
      duplicate: packet.dup,
      retained: packet.retain,
      ack: packet.qos === 1 ? this.window.take(packet.messageId ?? 0) : () => undefined,
    };
    const waiting = this.arrived.get(channel);
    if (waiting) waiting.push(delivery);
    else this.arrived.set(channel, [delivery]);
    if (this.handingOver) return;
    this.handingOver = true;
    setImmediate(() => this.handOver());
  }

  private route(topic: string): { channel: InboundChannel; deviceId: string } {
    for (const route of this.routes) {
      const deviceId = route.topic.deviceIdOf(topic);
      if (deviceId !== null) return { channel: route.channel, deviceId };
    }
    // A durable session may still hold a subscription of an earlier configuration. Nothing is lost:
    // without a device id the message ends in quarantine.
    return { channel: 'data', deviceId: '' };
  }

  private handOver(): void {
    this.handingOver = false;
    for (const [channel, deliveries] of this.arrived) {
      const pattern = INBOUND[channel];
      const event = this.deserializer.deserialize(deliveries, { channel: pattern }) as IncomingEvent;
      const context = new MqttContext([pattern, {}]);
      void this.handleEvent(pattern, event, context).catch((error: unknown) =>
        this.handleError(String(error)),
      );
    }
    this.arrived.clear();
  }
}
