import { Controller } from '@nestjs/common';
import { EventPattern, Payload } from '@nestjs/microservices';
import { Clock, MessageRejected, type DomainEvent } from '#kernel';
import {
  INBOUND,
  Inbox,
  MqttTransport,
  parseJsonPayload,
  SerialIntake,
  type Delivery,
  type Received,
} from '#platform';
import { DeviceRegistry } from '../application/device-registry.js';
import { PresenceKeeper, type ReceivedReport } from '../application/presence-keeper.js';
import { isDeviceId } from '../domain/device.js';
import { requireActive, requireOwnDeviceId } from '../domain/message-rules.js';
import { readStatusReport } from '../domain/presence.js';

/** Takes status messages and wills in. */
@Controller()
export class DeviceStatusMqtt {
  private readonly intake: SerialIntake;

  constructor(
    private readonly presence: PresenceKeeper,
    private readonly registry: DeviceRegistry,
    private readonly inbox: Inbox,
    clock: Clock,
    transport: MqttTransport,
  ) {
    this.intake = new SerialIntake(inbox, transport, clock, isDeviceId, (items) => this.store(items));
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
        reports.push({ deviceId, report: readStatusReport(payload, receivedAt), receivedAt });
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
    const changes = reports.length > 0 ? await this.presence.take(reports) : [];
    return [...rejections, ...changes];
  }
}
