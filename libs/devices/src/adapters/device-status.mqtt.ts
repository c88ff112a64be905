import { Controller } from '@nestjs/common';
import { EventPattern, Payload } from '@nestjs/microservices';
import { Clock, MessageRejected, type DomainEvent } from '#kernel';
import {
  Batcher,
  INBOUND,
  Inbox,
  MqttTransport,
  parseJsonPayload,
  type Delivery,
  type InboxItem,
} from '#platform';
import { DeviceRegistry } from '../application/device-registry.js';
import { PresenceKeeper, type ReceivedReport } from '../application/presence-keeper.js';
import { isDeviceId } from '../domain/device.js';
import { requireActive, requireOwnDeviceId } from '../domain/message-rules.js';
import { readStatusReport } from '../domain/presence.js';

interface Item extends InboxItem {
  readonly receivedAt: Date;
}

const BATCH = { size: 200, age: 5, concurrency: 1 };

/** Takes status messages and wills in. */
@Controller()
export class DeviceStatusMqtt {
  private readonly batcher = new Batcher<Item>(BATCH, (items) =>
    this.inbox.process(items, (part) => this.store(part)),
  );

  constructor(
    private readonly presence: PresenceKeeper,
    private readonly registry: DeviceRegistry,
    private readonly inbox: Inbox,
    private readonly clock: Clock,
    transport: MqttTransport,
  ) {
    transport.onDrain(() => this.batcher.drain());
  }

  @EventPattern<string>(INBOUND.status)
  receive(@Payload() deliveries: readonly Delivery[]): void {
    const receivedAt = this.clock.now();
    this.batcher.add(deliveries.map((delivery) => ({ delivery, receivedAt })));
  }

  private async store(items: readonly Item[]): Promise<readonly DomainEvent[]> {
    const known = await this.registry.findMany(
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
        reports.push({ deviceId, report: readStatusReport(payload, receivedAt), receivedAt });
      } catch (error) {
        if (!(error instanceof MessageRejected)) throw error;
        const sender = {
          deviceId: isDeviceId(deviceId) ? deviceId : null,
          patientId: device?.patientId ?? null,
        };
        rejections.push(await this.inbox.setAside(delivery, sender, error, receivedAt));
      }
    }
    const changes = reports.length > 0 ? await this.presence.take(reports) : [];
    return [...rejections, ...changes];
  }
}
