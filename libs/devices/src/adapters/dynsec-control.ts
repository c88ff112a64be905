import { setTimeout as sleep } from 'node:timers/promises';
import { MqttClient } from 'mqtt';
import type { Logger } from '@nestjs/common';
import { clientOptions, ConnectionComplaint, openSocket, sayGoodbye, type Config } from '#platform';
import { brokerUnavailable } from './device-accounts.js';

/** mosquitto.org, "Dynamic security": the plugin answers the sender alone, on the second of these. */
const REQUEST = '$CONTROL/dynamic-security/v1';
const RESPONSE = `${REQUEST}/response`;
const RECONNECT_MS = 1_000;
const ANSWER_WITHIN_MS = 15_000;
/**
 * Commands in one message. The plugin writes its whole file after each, and the broker serves nobody meanwhile: at 1,000
 * accounts a command takes 20 ms, so a longer message would be felt by every device.
 */
const BATCH = 20;

/** A command of the plugin's, with its parameters. */
export type DynsecCommand = Readonly<Record<string, unknown>> & { readonly command: string };

/** What the plugin says to one command. */
export interface DynsecAnswer {
  readonly command: string;
  /** Absent: it was done. */
  readonly error?: string;
  readonly data?: Readonly<Record<string, unknown>>;
}

interface Asked {
  readonly command: DynsecCommand;
  readonly resolve: (answer: DynsecAnswer) => void;
  readonly reject: (error: Error) => void;
}

/** Talks to Mosquitto's dynamic security plugin over a connection of its own, one message at a time. */
export class DynsecControl {
  private client: MqttClient | undefined;
  private usable = false;
  private readonly queue: Asked[] = [];
  private inHand: readonly Asked[] = [];
  private overdue: NodeJS.Timeout | undefined;

  constructor(
    private readonly config: Config,
    private readonly logger: Logger,
  ) {}

  /** Begins to connect; it may take for ever. @param onUsable is called each time the plugin can be talked to. */
  open(onUsable: () => void): void {
    const { config, logger } = this;
    const complaint = new ConnectionComplaint(logger, config);
    const clientId = `${config.mqtt.clientId}-access-${process.pid.toString(36)}${process.hrtime()[1].toString(36)}`;
    const client = new MqttClient(() => openSocket(config), {
      ...clientOptions(config, clientId),
      clean: true,
      reconnectPeriod: RECONNECT_MS,
      reconnectOnConnackError: true,
      resubscribe: false,
    });
    this.client = client;
    client.on('error', (error) => complaint.report(error));
    client.on('message', (_topic, payload) => this.answered(payload.toString('utf8')));
    client.on('close', () => this.giveUp());
    client.on('connect', () => {
      complaint.reset();
      client.subscribeAsync(RESPONSE, { qos: 1 }).then(
        () => {
          this.usable = true;
          onUsable();
          this.next();
        },
        () => {
          if (client.connected)
            logger.error(
              'The account of MQTT_USERNAME may not administer the dynamic security plugin (mosquitto_ctrl dynsec init)',
            );
        },
      );
    });
  }

  /**
   * Has the plugin do commands, in their order; with others waiting, in one message.
   * @returns what it says to each. @throws DomainError unavailable/broker_unavailable: some may have been done.
   */
  async run(commands: readonly DynsecCommand[]): Promise<readonly DynsecAnswer[]> {
    if (!this.usable) throw brokerUnavailable('The broker is not reachable at the moment.');
    const answers = commands.map(
      (command) =>
        new Promise<DynsecAnswer>((resolve, reject) => this.queue.push({ command, resolve, reject })),
    );
    // Whoever asks at the same time shares the message.
    void sleep(0).then(() => this.next());
    return Promise.all(answers);
  }

  async close(): Promise<void> {
    this.giveUp();
    if (this.client) await sayGoodbye(this.client);
  }

  private next(): void {
    if (!this.usable || this.inHand.length > 0 || this.queue.length === 0) return;
    const asked = this.queue.splice(0, BATCH);
    this.inHand = asked;
    this.overdue = setTimeout(() => this.client?.reconnect(), ANSWER_WITHIN_MS);
    const message = JSON.stringify({ commands: asked.map(({ command }) => command) });
    // A refusal is told by the absence of an answer too.
    this.client?.publishAsync(REQUEST, message, { qos: 1 }).catch(() => this.giveUp());
  }

  private answered(text: string): void {
    const { inHand } = this;
    clearTimeout(this.overdue);
    this.inHand = [];
    const responses = responsesOf(text);
    inHand.forEach(({ command, resolve, reject }, index) => {
      const response = responses[index];
      if (response?.command === command.command) resolve(response);
      else reject(brokerUnavailable('The broker gave an answer that is none.'));
    });
    this.next();
  }

  private giveUp(): void {
    clearTimeout(this.overdue);
    this.usable = this.usable && (this.client?.connected ?? false);
    const lost = [...this.inHand, ...this.queue.splice(0)];
    this.inHand = [];
    for (const { reject } of lost) reject(brokerUnavailable('The broker did not answer.'));
  }
}

/** Has the plugin do one command by another account. Resolves when the broker has it. */
export async function runOnceAs(
  config: Config,
  account: { readonly username: string; readonly password: string },
  command: DynsecCommand,
): Promise<void> {
  const options = clientOptions(config, `${config.mqtt.clientId}-setup-${process.pid.toString(36)}`);
  const client = new MqttClient(() => openSocket(config), { ...options, ...account, reconnectPeriod: 0 });
  try {
    // Reported by the close that follows, too; unheard, the event would end the process.
    client.on('error', () => undefined);
    await new Promise<void>((resolve, reject) => {
      client.once('connect', () => resolve());
      client.once('close', () => reject(brokerUnavailable('The broker did not take the account.')));
    });
    await client.publishAsync(REQUEST, JSON.stringify({ commands: [command] }), { qos: 1 });
  } finally {
    await sayGoodbye(client);
  }
}

/** The plugin answers a message's commands in their order. */
function responsesOf(text: string): readonly DynsecAnswer[] {
  try {
    const { responses } = JSON.parse(text) as { responses?: DynsecAnswer[] };
    return Array.isArray(responses) ? responses : [];
  } catch {
    return [];
  }
}
