import { Controller } from '@nestjs/common';
import { EventPattern, Payload } from '@nestjs/microservices';
import { Clock, MessageRejected, type DomainEvent } from '#kernel';
import {
  correlationDataOf,
  INBOUND,
  Inbox,
  MqttTransport,
  parseJsonPayload,
  SerialIntake,
  type Delivery,
  type Received,
} from '#platform';
import { DeviceRegistry, isDeviceId, requireActive, requireOwnDeviceId, type DeviceIdentity } from '#devices';
import { CommandDispatcher } from '../application/command-dispatcher.js';
import { answered, commandEvent, commandEvents, type CommandResponse } from '../domain/command.js';
import { readCommandResponse } from '../domain/command-response.js';
import { CommandRepository } from '../ports/command.repository.js';

/** A response that could be read, and whose it is. */
interface Report {
  readonly item: Received;
  readonly owner: DeviceIdentity;
  readonly response: CommandResponse;
}

/** Takes devices' answers in and enters them into the ledger, a batch in one transaction. */
@Controller()
export class CommandResponsesMqtt {
  private readonly intake: SerialIntake;

  constructor(
    private readonly commands: CommandRepository,
    private readonly dispatcher: CommandDispatcher,
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
    const reports: Report[] = [];
    const rejections = new Map<Received, MessageRejected>();
    for (const item of items) {
      const { deviceId, payload, properties } = item.delivery;
      try {
        const content = parseJsonPayload(payload);
        requireOwnDeviceId(content, deviceId);
        const owner = requireActive(known.get(deviceId));
        reports.push({
          item,
          owner,
          response: readCommandResponse(content, properties ? correlationDataOf(properties) : null),
        });
      } catch (error) {
        if (!(error instanceof MessageRejected)) throw error;
        rejections.set(item, error);
      }
    }
    const events = [...(await this.enter(reports, rejections))];
    for (const item of items) {
      const rejection = rejections.get(item);
      if (rejection) events.push(await this.setAside(item, known.get(item.delivery.deviceId), rejection));
    }
    return events;
  }

  /** @param rejections takes up what answers no command, or another device's. */
  private async enter(
    reports: readonly Report[],
    rejections: Map<Received, MessageRejected>,
  ): Promise<readonly DomainEvent[]> {
    if (reports.length === 0) return [];
    const events: DomainEvent[] = [];
    const roomMade = new Set<string>();
    const ofCommand = new Map<string, Report[]>();
    for (const report of reports) {
      const { commandId } = report.response;
      ofCommand.set(commandId, [...(ofCommand.get(commandId) ?? []), report]);
      rejections.set(
        report.item,
        new MessageRejected('invalid_payload', 'command_id is that of no command.'),
      );
    }
    await this.commands.change({ commandIds: [...ofCommand.keys()] }, (command) => {
      let current = command;
      for (const { item, owner, response } of ofCommand.get(command.commandId) ?? []) {
        if (item.delivery.deviceId !== command.deviceId) {
          const foreign = "command_id is that of another device's command.";
          rejections.set(item, new MessageRejected('device_id_mismatch', foreign));
          continue;
        }
        rejections.delete(item);
        const step = answered(current, response, item.receivedAt);
        if (current.status === 'sent' && step.command.status !== 'sent') roomMade.add(command.deviceId);
        current = step.command;
        events.push(...commandEvents(step, owner, item.receivedAt));
        // Delivered before, it may have been entered by somebody who could not tell of it any more.
        if (item.delivery.duplicate && step.entered.length === 0 && current.status === response.status)
          events.push(commandEvent(current, response.status, owner, item.receivedAt));
      }
      return current === command ? null : { command: current, entered: [] };
    });
    this.dispatcher.serveSoon(roomMade);
    return events;
  }

  private async setAside(
    { delivery, receivedAt }: Received,
    device: DeviceIdentity | undefined,
    rejection: MessageRejected,
  ): Promise<DomainEvent> {
    const { deviceId } = delivery;
    const sender = {
      deviceId: isDeviceId(deviceId) ? deviceId : null,
      tenant: device?.tenant ?? null,
      patientId: device?.patientId ?? null,
    };
    return this.inbox.setAside(delivery, sender, rejection, receivedAt);
  }
}
