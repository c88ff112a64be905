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
import { DeviceRegistry, isDeviceId, requireActive, requireOwnDeviceId } from '#devices';
import { answered, commandEvent, type Command } from '../domain/command.js';
import { readCommandResponse } from '../domain/command-response.js';
import { CommandRepository } from '../ports/command.repository.js';

/** Takes devices' answers in and enters them into the ledger. */
@Controller()
export class CommandResponsesMqtt {
  private readonly intake: SerialIntake;

  constructor(
    private readonly commands: CommandRepository,
    private readonly registry: DeviceRegistry,
    private readonly inbox: Inbox,
    clock: Clock,
    transport: MqttTransport,
  ) {
    this.intake = new SerialIntake(inbox, transport, clock, isDeviceId, (items) => this.store(items));
  }

  @EventPattern<string>(INBOUND.responses)
  receive(@Payload() deliveries: readonly Delivery[]): void {
    this.intake.take(deliveries);
  }

  private async store(items: readonly Received[]): Promise<readonly DomainEvent[]> {
    const known = await this.registry.identify(
      items.map(({ delivery }) => delivery.deviceId).filter(isDeviceId),
    );
    const events: DomainEvent[] = [];
    for (const { delivery, receivedAt } of items) {
      const { deviceId } = delivery;
      const device = known.get(deviceId);
      try {
        const payload = parseJsonPayload(delivery.payload);
        requireOwnDeviceId(payload, deviceId);
        const owner = requireActive(device);
        const outcome = await this.enter(deviceId, payload, receivedAt);
        if (outcome.changed) events.push(commandEvent(outcome.command, owner, receivedAt));
      } catch (error) {
        if (!(error instanceof MessageRejected)) throw error;
        const sender = {
          deviceId: isDeviceId(deviceId) ? deviceId : null,
          tenant: device?.tenant ?? null,
          patientId: device?.patientId ?? null,
        };
        events.push(await this.inbox.setAside(delivery, sender, error, receivedAt));
      }
    }
    return events;
  }

  private async enter(
    deviceId: string,
    payload: Readonly<Record<string, unknown>>,
    at: Date,
  ): Promise<{ command: Command; changed: boolean }> {
    const response = readCommandResponse(payload);
    let before: Command | undefined;
    const command = await this.commands.update(deviceId, response.commandId, (current) => {
      before = current;
      return answered(current, response, at);
    });
    if (command) return { command, changed: before?.status !== command.status };
    const owner = await this.commands.deviceOf(response.commandId);
    throw owner === null
      ? new MessageRejected('invalid_payload', 'command_id is that of no command.')
      : new MessageRejected('device_id_mismatch', "command_id is that of another device's command.");
  }
}
