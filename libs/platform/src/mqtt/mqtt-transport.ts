import { Injectable, Logger } from '@nestjs/common';
import { MqttContext, Server, type CustomTransportStrategy } from '@nestjs/microservices';
import { Config } from '../config/config.js';
import { AckWindow, type Owed } from './ack-window.js';
import { INBOUND, type Delivery, type InboundChannel } from './delivery.js';
import { IntakeGate } from './intake-gate.js';
import { MqttConsumer } from './mqtt-consumer.js';
import type { Publish } from './publish-frames.js';
import { DeviceTopic } from './topic-filter.js';

/** Payload bytes in hand at once, at most: ECG segments are large. */
const MAX_BYTES_IN_HAND = 8 * 1_024 * 1_024;

interface Route {
  readonly channel: InboundChannel;
  readonly topic: DeviceTopic;
}

/** A message in hand, and what is owed for it. */
class TakenDelivery implements Delivery {
  readonly topic: string;
  readonly payload: Buffer;
  readonly packetId: number;
  readonly duplicate: boolean;
  readonly retained: boolean;
  readonly properties: Buffer | null;
  private done = false;

  constructor(
    publish: Publish,
    readonly deviceId: string,
    readonly mayHaveWaited: boolean,
    private readonly owed: Owed,
    private readonly window: AckWindow,
    private readonly gate: IntakeGate,
    private readonly consumer: MqttConsumer,
  ) {
    this.topic = publish.topic;
    this.payload = publish.payload;
    this.packetId = publish.packetId;
    this.duplicate = publish.duplicate;
    this.retained = publish.retained;
    this.properties = publish.properties;
    gate.enter(this.payload.length);
  }

  get mayBeElsewhere(): boolean {
    return this.consumer.mayHaveSuccessor && (this.window.isClosed || !this.consumer.isHolder);
  }

  ack(): void {
    if (this.done) return;
    this.window.settle(this.owed);
    this.letGo();
  }

  /** It is in nobody's hands any more, and the broker's to deliver again. */
  letGo(): void {
    if (this.done) return;
    this.done = true;
    this.gate.leave(this.payload.length);
  }
}

/**
 * Nest's way in for what devices publish, with the acknowledgement in our hands: a message is acknowledged when its
 * {@link Delivery.ack} is called, in the order of arrival, and only on the connection that delivered it. What arrives
 * together is handed to the `@EventPattern(INBOUND.*)` handler together, so that Nest's pipeline is paid once a
 * micro-batch.
 */
@Injectable()
export class MqttTransport extends Server implements CustomTransportStrategy {
  protected override readonly logger = new Logger('Mqtt');
  private readonly routes: readonly Route[];
  private readonly arrived = new Map<InboundChannel, TakenDelivery[]>();
  private readonly drains: (() => Promise<void>)[] = [];
  private readonly markListeners: ((markedAt: Date) => void)[] = [];
  private readonly gate: IntakeGate;
  private window = new AckWindow(() => undefined);
  private handingOver = false;
  private intake = true;
  private readonly isShared: boolean;
  /** A mark of this connection has come back: what waited before it has been read. */
  private hasCaughtUp = false;

  constructor(
    config: Config,
    private readonly consumer: MqttConsumer,
  ) {
    super();
    const { topics, inflight, sharedGroup } = config.mqtt;
    this.isShared = sharedGroup !== undefined;
    this.routes = (['data', 'status', 'responses'] as const).map((channel) => ({
      channel,
      topic: new DeviceTopic(topics[channel]),
    }));
    this.gate = new IntakeGate(
      { messages: inflight, bytes: MAX_BYTES_IN_HAND },
      () => consumer.hold(),
      () => consumer.release(),
    );
  }

  /** Messages taken from the broker and not yet seen through. */
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

  /**
   * Calls back when a {@link MqttConsumer.mark} has come back and all that the broker delivered before it is seen through:
   * nothing waits any more, in the broker or here, of what devices had published when the mark was made.
   */
  onMarkReached(listener: (markedAt: Date) => void): void {
    this.markListeners.push(listener);
  }

  /** Resolves when every handler has finished what it had begun. Stop the intake first. */
  async drain(): Promise<void> {
    await Promise.all(this.drains.map((finish) => finish()));
    this.window.flush();
  }

  /** Takes nothing more in: what still arrives stays unacknowledged and is the broker's to deliver again. */
  stopIntake(): void {
    this.intake = false;
    this.forgetArrived();
  }

  /** Does not wait for the broker, which may be down for long: the service is of use without it. */
  override listen(callback: () => void): void {
    this.consumer.start(
      this.routes.map((route) => route.topic.filter),
      {
        connected: (tap) => {
          this.hasCaughtUp = false;
          this.window.close();
          this.window = new AckWindow((replies) => tap.acknowledge(replies));
        },
        received: (publish) => this.receive(publish),
        disconnected: () => {
          this.window.close();
          // Not handed over yet, so nobody else holds them; the broker delivers them again.
          this.forgetArrived();
        },
      },
    );
    callback();
  }

  /** The connection is closed last, by the ordered stop: the acknowledgements still need it. */
  override close(): void {
    this.stopIntake();
  }

  override on(): void {
    throw new Error('MqttTransport has no events of its own');
  }

  override unwrap(): never {
    throw new Error('MqttTransport wraps no client');
  }

  private receive(publish: Publish): void {
    if (!this.intake) return;
    const reply = publish.packetId === 0 ? null : publish.reply;
    if (this.consumer.isMark(publish)) {
      const markedAt = this.consumer.markedAt(publish);
      if (markedAt) this.hasCaughtUp = true;
      const mark = this.window.take(reply, Date.now(), () => {
        if (markedAt) for (const listener of this.markListeners) listener(markedAt);
      });
      this.window.settle(mark);
      return;
    }
    const { channel, deviceId } = this.route(publish.topic);
    const owed = this.window.take(reply, Date.now());
    const delivery = new TakenDelivery(
      publish,
      deviceId,
      this.isShared && !this.hasCaughtUp && this.consumer.hasMarks,
      owed,
      this.window,
      this.gate,
      this.consumer,
    );
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
    for (const [channel, data] of this.arrived) {
      const pattern = INBOUND[channel];
      const context = new MqttContext([pattern, {}]);
      void this.handleEvent(pattern, { pattern, data }, context).catch((error: unknown) =>
        this.handleError(String(error)),
      );
    }
    this.arrived.clear();
  }

  private forgetArrived(): void {
    for (const deliveries of this.arrived.values()) for (const delivery of deliveries) delivery.letGo();
    this.arrived.clear();
  }
}
