import { Injectable } from '@nestjs/common';
import { Config, DeviceTopic, encodeProperties, MqttPublisher } from '#platform';
import type { Command } from '../domain/command.js';
import { CommandSender } from '../ports/command-sender.js';

/** Publishes commands on the device's topic, never retained: a device that comes back must not obey old orders. */
@Injectable()
export class MqttCommandSender extends CommandSender {
  private readonly commands: DeviceTopic;
  private readonly responses: DeviceTopic;

  constructor(
    private readonly config: Config,
    private readonly publisher: MqttPublisher,
  ) {
    super();
    this.commands = new DeviceTopic(config.mqtt.topics.commands);
    this.responses = new DeviceTopic(config.mqtt.topics.responses);
  }

  get available(): boolean {
    return this.publisher.status.connected;
  }

  onAvailable(listener: () => void): void {
    this.publisher.onConnected(listener);
  }

  async send(commands: readonly Command[], now: Date): Promise<readonly boolean[]> {
    return this.publisher.publishNow(
      commands.map((command) => ({
        topic: this.commands.of(command.deviceId),
        payload: JSON.stringify({
          ...command.parameters,
          command: command.command,
          command_id: command.commandId,
          issued_at: command.createdAt.toISOString(),
        }),
        ...(this.config.mqtt.protocolVersion === 5 && { properties: this.propertiesOf(command, now) }),
      })),
    );
  }

  /** What a broker takes off for devices that speak 3.1.1. */
  private propertiesOf(command: Command, now: Date): Buffer {
    const millisecondsLeft = command.expiresAt.getTime() - now.getTime();
    return encodeProperties({
      // Whole seconds: rather a little early than after the ledger has given it up.
      messageExpiryInterval: Math.max(1, Math.floor(millisecondsLeft / 1_000)),
      contentType: 'application/json',
      responseTopic: this.responses.of(command.deviceId),
      correlationData: command.commandId,
      userProperties: { command_id: command.commandId, expires_at: command.expiresAt.toISOString() },
    });
  }
}
