import { Injectable, Logger } from '@nestjs/common';
import { Clock, EventBus, NOBODYS, type DomainEvent } from '#kernel';
import { DeviceRegistry } from '#devices';
import { commandEvent, sent, type Command } from '../domain/command.js';
import { CommandRepository } from '../ports/command.repository.js';
import { CommandSender } from '../ports/command-sender.js';

/** Brings queued commands to devices that are there, in their order, and ends those whose time is over. */
@Injectable()
export class CommandDispatcher {
  private readonly logger = new Logger('Commands');
  /** Devices being served, and the end of what is being done for them. */
  private readonly serving = new Map<string, Promise<void>>();
  /** Told once, not every second. */
  private lastProblem = '';

  constructor(
    private readonly commands: CommandRepository,
    private readonly sender: CommandSender,
    private readonly registry: DeviceRegistry,
    private readonly bus: EventBus,
    private readonly clock: Clock,
  ) {
    bus.subscribe({
      name: 'commands',
      types: ['device.connected'],
      handle: (events) => events.forEach(({ deviceId }) => deviceId !== null && void this.serve(deviceId)),
    });
    bus.subscribe({
      name: 'commands-undeliverable',
      types: ['device.decommissioned'],
      handle: () => void this.cancelUndeliverable(),
    });
    sender.onAvailable(() => void this.serveAll());
  }

  /** Sends what is queued for a device. Never rejects: what could not be sent stays queued. */
  async serve(deviceId: string): Promise<void> {
    const before = this.serving.get(deviceId) ?? Promise.resolve();
    const mine = before.then(() => this.sendQueued(deviceId));
    this.serving.set(deviceId, mine);
    await mine;
    if (this.serving.get(deviceId) === mine) this.serving.delete(deviceId);
  }

  /** Serves every online device that has something queued. */
  async serveAll(): Promise<void> {
    if (!this.sender.available) return;
    await this.quietly(async () => {
      const devices = await this.commands.devicesToServe(this.clock.now());
      await Promise.all(devices.map((deviceId) => this.serve(deviceId)));
    });
  }

  /** Ends commands whose time is over. */
  async expire(): Promise<void> {
    await this.quietly(async () => {
      const now = this.clock.now();
      this.bus.announce(await this.events(await this.commands.expire(now), now));
    });
  }

  /** Cancels what is queued for devices that will not come back. What they were sent ends when its time is over. */
  async cancelUndeliverable(): Promise<void> {
    await this.quietly(async () => {
      const cancelled = await this.commands.cancelUndeliverable();
      this.bus.announce(await this.events(cancelled, this.clock.now()));
    });
  }

  /** Resolves when nothing is being sent. */
  async drain(): Promise<void> {
    await Promise.all(this.serving.values());
  }

  private async sendQueued(deviceId: string): Promise<void> {
    await this.quietly(async () => {
      while (this.sender.available) {
        const now = this.clock.now();
        const command = await this.commands.sendNext(deviceId, now, async (queued) => {
          await this.sender.send(queued, now);
          return sent(queued, this.clock.now());
        });
        if (!command) return;
        this.bus.announce(await this.events([command], now));
      }
    });
  }

  private async events(commands: readonly Command[], at: Date): Promise<readonly DomainEvent[]> {
    if (commands.length === 0) return [];
    const devices = await this.registry.identify(commands.map(({ deviceId }) => deviceId));
    return commands.map((command) => commandEvent(command, devices.get(command.deviceId) ?? NOBODYS, at));
  }

  private async quietly(work: () => Promise<void>): Promise<void> {
    try {
      await work();
      this.lastProblem = '';
    } catch (error) {
      const problem = problemOf(error);
      if (problem !== this.lastProblem) this.logger.warn(`Commands wait: ${problem}`);
      this.lastProblem = problem;
    }
  }
}

/** For the log: what has a code is the database's or the network's, whose messages may quote what was to be stored. */
function problemOf(error: unknown): string {
  if (!(error instanceof Error)) return 'unknown error';
  return 'code' in error && typeof error.code === 'string' ? error.code : error.message;
}
