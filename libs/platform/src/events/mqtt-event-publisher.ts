import { Injectable } from '@nestjs/common';
import type { DomainEvent, EventBus } from '#kernel';
import { Config } from '../config/config.js';
import { MqttPublisher } from '../mqtt/mqtt-publisher.js';
import type { Outgoing } from '../mqtt/publish-lane.js';
import { cloudEventJson, fits, reducedCloudEventJson } from './cloud-event.js';

/**
 * Events are no larger than the messages taken in may be. Brokers of MQTT 3.1.1 do not say what they accept, and end the
 * connection over more, again at each attempt.
 */
const MAX_EVENT_BYTES = 262_144;

/** Tells other systems, over the broker: each event as a CloudEvent on `<prefix>/<type>/<device_id>`, QoS 1. */
@Injectable()
export class MqttEventPublisher {
  constructor(
    private readonly config: Config,
    private readonly publisher: MqttPublisher,
  ) {}

  /** Begins to publish what the bus carries, unless `MQTT_TOPIC_EVENTS` is empty. */
  attach(bus: EventBus): void {
    if (this.config.mqtt.topics.events === '') return;
    bus.subscribe({ name: 'mqtt-events', handle: (events) => this.publish(events) });
  }

  /** Resolves when the broker has taken all of them. */
  private async publish(events: readonly DomainEvent[]): Promise<void> {
    const prefix = this.config.mqtt.topics.events;
    await this.publisher.publishAll(events.map((event) => new EventMessage(prefix, event)));
  }
}

/** Its text is made when it goes out: events that wait for the broker take no more room than they did before. */
class EventMessage implements Outgoing {
  constructor(
    private readonly prefix: string,
    private readonly event: DomainEvent,
  ) {}

  get topic(): string {
    return `${this.prefix}/${this.event.type}/${this.event.deviceId ?? 'unknown'}`;
  }

  get withdrawn(): boolean {
    return this.event.outdated === true;
  }

  get payload(): string {
    const whole = cloudEventJson(this.event);
    return fits(whole, MAX_EVENT_BYTES) ? whole : this.reduced(MAX_EVENT_BYTES);
  }

  reduced(maxBytes: number): string {
    return reducedCloudEventJson(this.event, maxBytes);
  }
}
