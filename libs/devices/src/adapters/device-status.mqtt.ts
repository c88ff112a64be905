import { Controller } from '@nestjs/common';
import { EventPattern, Payload } from '@nestjs/microservices';
import { Clock, MessageRejected, Quarantine, UnitOfWork, type DomainEvent } from '#kernel';
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
import { PresenceKeeper } from '../application/presence-keeper.js';
import { isDeviceId } from '../domain/device.js';
import { readStatusReport, type StatusReport } from '../domain/presence.js';

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
    private readonly quarantine: Quarantine,
    private readonly unitOfWork: UnitOfWork,
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
    const known = await this.registry.findMany(items.map(({ delivery }) => delivery.deviceId));
    const reports: { deviceId: string; report: StatusReport; receivedAt: Date }[] = [];
    const rejected: { item: Item; rejection: MessageRejected }[] = [];
    for (const item of items) {
      const { deviceId } = item.delivery;
      try {
        const payload = parseJsonPayload(item.delivery.payload);
        if (payload['device_id'] !== undefined && payload['device_id'] !== deviceId) {
          throw new MessageRejected('device_id_mismatch', 'device_id is not the device id of the topic.');
        }
        const device = known.get(deviceId);
        if (!device) throw new MessageRejected('unknown_device', 'No device of this id is registered.');
        if (device.decommissionedAt)
          throw new MessageRejected('decommissioned_device', 'The device is decommissioned.');
        reports.push({ deviceId, report: readStatusReport(payload), receivedAt: item.receivedAt });
      } catch (error) {
        if (!(error instanceof MessageRejected)) throw error;
        rejected.push({ item, rejection: error });
      }
    }
    if (rejected.length > 0) {
      const messages = rejected.map(({ item: { delivery, receivedAt }, rejection }) =>
        this.inbox.rejected(
          delivery,
          isDeviceId(delivery.deviceId) ? delivery.deviceId : null,
          rejection,
          receivedAt,
          false,
        ),
      );
      await this.unitOfWork.run((transaction) => this.quarantine.add(transaction, messages));
    }
    return reports.length > 0 ? this.presence.take(reports) : [];
  }
}
