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
import { CommandHerald } from '../application/command-herald.js';
import { answered, mayHaveArrived, type CommandResponse, type Entered } from '../domain/command.js';
import { readCommandResponse } from '../domain/command-response.js';
import { CommandRepository, type Change } from '../ports/command.repository.js';

/** A response that could be read. */
interface Report {
  readonly item: Received;
  readonly response: CommandResponse;
}

/** Takes devices' answers in and enters them into the ledger, a batch in one transaction. */
@Controller()
export class CommandResponsesMqtt {
  private readonly intake: SerialIntake;

  constructor(
    private readonly commands: CommandRepository,
    private readonly dispatcher: CommandDispatcher,
    private readonly herald: CommandHerald,
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
        requireActive(known.get(deviceId));
        reports.push({
          item,
          response: readCommandResponse(content, properties ? correlationDataOf(properties) : null),
        });
      } catch (error) {
        if (!(error instanceof MessageRejected)) throw error;
        rejections.set(item, error);
      }
    }
    // Kept as news in the ledger: that they are told of need not be waited for.
    this.herald.announce(await this.enter(reports, rejections), known);
    const rejected: DomainEvent[] = [];
    for (const item of items) {
      const rejection = rejections.get(item);
      if (rejection) rejected.push(await this.setAside(item, known.get(item.delivery.deviceId), rejection));
    }
    return rejected;
  }

  /** @param rejections takes up what answers no command, another device's, or one that was not sent. */
  private async enter(
    reports: readonly Report[],
    rejections: Map<Received, MessageRejected>,
  ): Promise<readonly Change[]> {
    if (reports.length === 0) return [];
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
    const changes = await this.commands.change({ commandIds: [...ofCommand.keys()] }, (command) => {
      let current = command;
      const entered: Entered[] = [];
      for (const { item, response } of ofCommand.get(command.commandId) ?? []) {
        if (item.delivery.deviceId !== command.deviceId) {
          const foreign = "command_id is that of another device's command.";
          rejections.set(item, new MessageRejected('device_id_mismatch', foreign));
          continue;
        }
        if (!mayHaveArrived(command)) {
          const unsent = 'command_id is that of a command that was not sent.';
          rejections.set(item, new MessageRejected('invalid_payload', unsent));
          continue;
        }
        rejections.delete(item);
        const step = answered(current, response, item.receivedAt);
        if (current.status === 'sent' && step.command.status !== 'sent') roomMade.add(command.deviceId);
        current = step.command;
        entered.push(...step.entered);
      }
      return current === command ? null : { command: current, entered };
    });
    this.dispatcher.heardOf(reports.map(({ item }) => item.delivery.deviceId));
    this.dispatcher.serveSoon(roomMade);
    return changes;
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
