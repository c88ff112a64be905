import { Injectable } from '@nestjs/common';
import { Config, DeviceTopic, encodeProperties, MqttPublisher, type PublishOutcome } from '#platform';
import type { Command } from '../domain/command.js';
import { CommandSender, type Hold, type Sending } from '../ports/command-sender.js';

/** MQTT 5, section 3.4.2.1: PUBACK reason codes a broker may give for a message it would take another time. */
const PASSING_REASONS: ReadonlySet<number> = new Set([
  0x91, // packet identifier in use
  0x97, // quota exceeded
]);
const NAMES: Readonly<Record<number, string>> = {
  0x80: 'unspecified error',
  0x83: 'implementation specific error',
  0x87: 'not authorized',
  0x90: 'topic name invalid',
  0x99: 'payload format invalid',
};

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

  get tellsUnheard(): boolean {
    return this.publisher.tellsUnheard;
  }

  onAvailable(listener: () => void): void {
    this.publisher.onConnected(listener);
  }

  async send(commands: readonly Command[], now: Date, hold: Hold): Promise<readonly Sending[]> {
    const outcomes = await this.publisher.publishNow(
      commands.map((command) => ({
        topic: this.commands.of(command.deviceId),
        get lapsed(): boolean {
          return !hold.has(command);
        },
        payload: JSON.stringify({
          ...command.parameters,
          command: command.command,
          command_id: command.commandId,
          issued_at: command.createdAt.toISOString(),
        }),
        ...(this.config.mqtt.protocolVersion === 5 && { properties: this.propertiesOf(command, now) }),
      })),
    );
    return outcomes.map(sendingOf);
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

function sendingOf(outcome: PublishOutcome): Sending {
  switch (outcome.kind) {
    case 'too_large':
      return {
        kind: 'refused',
        error: `too_large: the broker takes packets of up to ${outcome.maxBytes} bytes`,
      };
    case 'refused': {
      const { reason } = outcome;
      if (PASSING_REASONS.has(reason)) return { kind: 'unsent' };
      const name = NAMES[reason] ?? 'no known reason';
      return { kind: 'refused', error: `refused_by_broker: ${name} (0x${reason.toString(16)})` };
    }
    default:
      return outcome;
  }
}
