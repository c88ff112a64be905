import { Controller } from '@nestjs/common';
import { EventPattern, Payload } from '@nestjs/microservices';
import { Clock, MessageRejected, type DomainEvent } from '#kernel';
import {
  Config,
  INBOUND,
  Inbox,
  messageId,
  MqttTransport,
  parseJsonPayload,
  SerialIntake,
  type Delivery,
  type Received,
} from '#platform';
import { DeviceRegistry } from '../application/device-registry.js';
import { PresenceHerald } from '../application/presence-herald.js';
import { PresenceKeeper, type ReceivedReport } from '../application/presence-keeper.js';
import { isDeviceId } from '../domain/device.js';
import { requireActive, requireOwnDeviceId } from '../domain/message-rules.js';
import { readStatusReport } from '../domain/status-report.js';
import type { PresenceNews } from '../ports/presence.repository.js';

/** Takes status messages and wills in. */
@Controller()
export class DeviceStatusMqtt {
  private readonly intake: SerialIntake;
  /** Committed, and being told of: one batch after the other. */
  private news: PresenceNews[] = [];
  /** What has been tried before, perhaps with success that was not heard of. */
  private readonly tried = new WeakSet<Delivery>();

  constructor(
    private readonly presence: PresenceKeeper,
    private readonly herald: PresenceHerald,
    private readonly registry: DeviceRegistry,
    private readonly config: Config,
    private readonly inbox: Inbox,
    clock: Clock,
    transport: MqttTransport,
  ) {
    this.intake = new SerialIntake(
      inbox,
      transport,
      clock,
      isDeviceId,
      (items) => this.store(items),
      () => {
        for (const news of this.news) void this.herald.told(news);
        this.news = [];
      },
    );
  }

  @EventPattern<string>(INBOUND.status)
  receive(@Payload() deliveries: readonly Delivery[]): void {
    this.intake.take(deliveries);
  }

  private async store(items: readonly Received[]): Promise<readonly DomainEvent[]> {
    const known = await this.registry.identify(
      items.map(({ delivery }) => delivery.deviceId).filter(isDeviceId),
    );
    const reports: ReceivedReport[] = [];
    const rejections: DomainEvent[] = [];
    for (const { delivery, receivedAt } of items) {
      const { deviceId } = delivery;
      const device = known.get(deviceId);
      try {
        const payload = parseJsonPayload(delivery.payload);
        requireOwnDeviceId(payload, deviceId);
        requireActive(device);
        const report = readStatusReport(payload, receivedAt, delivery);
        const isRepeat = delivery.duplicate || this.tried.has(delivery);
        reports.push({ deviceId, report, receivedAt, name: nameOf(delivery), isRepeat });
      } catch (error) {
        if (!(error instanceof MessageRejected)) throw error;
        const sender = {
          deviceId: isDeviceId(deviceId) ? deviceId : null,
          tenant: device?.tenant ?? null,
          patientId: device?.patientId ?? null,
        };
        rejections.push(await this.inbox.setAside(delivery, sender, error, receivedAt));
      }
    }
    for (const { delivery } of items) this.tried.add(delivery);
    const { news, events } = await this.herald.take(
      await this.presence.take(reports, this.config.batteryLow),
    );
    this.news.push(news);
    return [...rejections, ...events];
  }
}

/** The same when it is delivered again: packet ids come back, but hardly with the same payload among the last few. */
function nameOf({ packetId, topic, payload }: Delivery): string | null {
  return packetId === 0 ? null : `${packetId}.${messageId(topic, payload, null).slice(0, 16)}`;
}
