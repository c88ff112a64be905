import { Injectable } from '@nestjs/common';
import { Config, DeviceTopic, MqttPublisher } from '#platform';
import type { Command } from '../domain/command.js';
import { CommandSender } from '../ports/command-sender.js';

/** The broker acknowledges within moments, or is on its way out. */
const TAKEN_WITHIN_MS = 5_000;

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

  async send(command: Command, now: Date): Promise<void> {
    const payload = JSON.stringify({
      ...command.parameters,
      command: command.command,
      command_id: command.commandId,
      issued_at: command.createdAt.toISOString(),
    });
    const secondsLeft = Math.max(1, Math.ceil((command.expiresAt.getTime() - now.getTime()) / 1_000));
    const taken = this.publisher.publish(this.commands.of(command.deviceId), payload, {
      retain: false,
      // MQTT 5, sections 3.3.2.3.3 (message expiry), .5 (response topic) and .6 (correlation data).
      ...(this.config.mqtt.protocolVersion === 5 && {
        properties: {
          messageExpiryInterval: secondsLeft,
          responseTopic: this.responses.of(command.deviceId),
          correlationData: Buffer.from(command.commandId),
        },
      }),
    });
    let timer: NodeJS.Timeout | undefined;
    const late = new Promise<never>((_resolve, reject) => {
      timer = setTimeout(
        () => reject(new Error('the broker did not take a command in time')),
        TAKEN_WITHIN_MS,
      );
    });
    await Promise.race([taken, late]).finally(() => clearTimeout(timer));
  }
}
