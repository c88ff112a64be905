import { setTimeout as sleep } from 'node:timers/promises';
import { Injectable, Logger } from '@nestjs/common';
import { Clock, EventBus, NOBODYS, type DomainEvent } from '#kernel';
import { DeviceRegistry } from '#devices';
import { cancelled, commandEvents, expired, sent, type Command, type Step } from '../domain/command.js';
import { CLAIM_LEASE_MS, CommandRepository } from '../ports/command.repository.js';
import { CommandSender } from '../ports/command-sender.js';
import { ServingLine } from './serving-line.js';

/** Devices served together: each may get as many commands as may be in flight. */
const DEVICES_A_ROUND = 200;
/** While one round waits for the broker, others go to the database. */
const ROUNDS = 4;
const RETRY_MS = 200;
/** What is not a caller's order can wait for others, to be looked for together. */
const SOON_MS = 20;
/** Of its time, the share that looking for what was overlooked may take. */
const SWEEP_SHARE = 0.05;

/**
 * Brings queued commands to devices that are there, in their order, and ends those whose time is over.
 *
 * A command is taken up by a claim in the ledger, published, and recorded as sent; no lock is held while the broker
 * answers. Whoever dies in between leaves a claim that lapses, and the command goes out again under its own id: the ledger
 * does not know whether the broker has it.
 */
@Injectable()
export class CommandDispatcher {
  private readonly logger = new Logger('Commands');
  private readonly line: ServingLine;
  /** What this process is at. */
  private readonly claims = new Set<string>();
  private readonly stopping = new AbortController();
  private sweepDue = 0;
  private readonly soon = new Set<string>();
  private soonTimer: NodeJS.Timeout | undefined;
  /** Told once, not every second, until commands go out again. */
  private lastProblem = '';

  constructor(
    private readonly commands: CommandRepository,
    private readonly sender: CommandSender,
    private readonly registry: DeviceRegistry,
    private readonly bus: EventBus,
    private readonly clock: Clock,
  ) {
    this.line = new ServingLine(DEVICES_A_ROUND, ROUNDS, (deviceIds) => this.serveTogether(deviceIds));
    bus.subscribe({
      name: 'commands',
      types: ['device.connected'],
      handle: (events) => void this.serve(events.flatMap(({ deviceId }) => deviceId ?? [])),
    });
    bus.subscribe({
      name: 'commands-undeliverable',
      types: ['device.decommissioned', 'device.updated'],
      handle: (events) => {
        if (events.some(({ type, data }) => type === 'device.decommissioned' || data['reassigned'] === true))
          void this.cancelUndeliverable();
      },
    });
    sender.onAvailable(() => void this.sweep());
  }

  /** Sends what is queued for devices that are online. Never rejects: what could not be sent stays queued. */
  async serve(deviceIds: Iterable<string>): Promise<void> {
    if (this.sender.available) await this.line.add(deviceIds);
  }

  /** As {@link serve}, a moment later and together with others: for devices that may have more queued, or room for it. */
  serveSoon(deviceIds: Iterable<string>): void {
    for (const deviceId of deviceIds) this.soon.add(deviceId);
    if (this.soon.size === 0 || this.soonTimer) return;
    this.soonTimer = setTimeout(() => {
      this.soonTimer = undefined;
      const due = [...this.soon];
      this.soon.clear();
      void this.serve(due);
    }, SOON_MS);
  }

  /** What is due from time to time: claims are kept, commands ended, and what was overlooked is looked for. */
  async tidy(): Promise<void> {
    await this.quietly(() =>
      this.claims.size > 0 ? this.commands.renew([...this.claims]) : Promise.resolve(),
    );
    await this.expire();
    // After a crash, or where the database was away in the wrong moment; what is sent as a rule does not wait for it.
    if (performance.now() < this.sweepDue) return;
    const begun = performance.now();
    await this.cancelUndeliverable();
    await this.sweep();
    this.sweepDue = performance.now() + (performance.now() - begun) / SWEEP_SHARE;
  }

  /** Begins nothing more, and resolves when nothing is being sent. */
  async drain(): Promise<void> {
    this.stopping.abort();
    clearTimeout(this.soonTimer);
    await this.line.close();
  }

  /** Tells of what became of commands. */
  async tell(steps: readonly Step[], at: Date): Promise<void> {
    this.bus.announce(await this.eventsOf(steps, at));
  }

  private async sweep(): Promise<void> {
    await this.quietly(async () => {
      if (!this.sender.available) return;
      void this.serve(await this.commands.devicesToServe(this.clock.now()));
    });
  }

  /** Ends commands whose time is over; for devices that had them in flight there is room now. */
  private async expire(): Promise<void> {
    await this.quietly(async () => {
      for (;;) {
        const now = this.clock.now();
        const steps = await this.commands.change({ overAt: now }, (command) => expired(command, now));
        if (steps.length === 0) return;
        await this.tell(steps, now);
        this.serveSoon(steps.map(({ command }) => command.deviceId));
      }
    });
  }

  /** Cancels what is queued for devices that will not come back. What they were sent ends when its time is over. */
  private async cancelUndeliverable(): Promise<void> {
    await this.quietly(async () => {
      const now = this.clock.now();
      const steps = await this.commands.change('undeliverable', (command) => cancelled(command, now));
      await this.tell(steps, now);
    });
  }

  private async serveTogether(deviceIds: readonly string[]): Promise<void> {
    const claim = crypto.randomUUID();
    await this.quietly(async () => {
      const lapses = performance.now() + CLAIM_LEASE_MS;
      const now = this.clock.now();
      const commands = await this.commands.claim(claim, deviceIds, now);
      // Whoever stood still for so long is no longer the one to send them.
      if (commands.length === 0 || performance.now() >= lapses) return;
      this.claims.add(claim);
      try {
        await this.send(claim, commands, now);
      } finally {
        this.claims.delete(claim);
      }
    });
  }

  private async send(claim: string, commands: readonly Command[], now: Date): Promise<void> {
    const taken = await this.sender.send(commands, now).catch(() => commands.map(() => false));
    const out = commands.filter((_command, index) => taken[index]);
    await this.record(claim, out);
    if (out.length < commands.length) {
      await this.commands.release(claim);
      throw new Error('the broker did not take all of them');
    }
    this.lastProblem = '';
    // Whoever found the queue taken up has left to us what came in meanwhile.
    this.serveSoon(out.map(({ deviceId }) => deviceId));
  }

  /** The broker has them: that must get into the ledger, or they would be sent again. */
  private async record(claim: string, commands: readonly Command[]): Promise<void> {
    if (commands.length === 0) return;
    const at = this.clock.now();
    const steps = commands.map((command) => sent(command, at)).filter((step) => step !== null);
    const stored = new Set(await this.insist(() => this.commands.settle(claim, steps)));
    // Answered, or at their end, before this was known.
    const commandIds = commands.map(({ commandId }) => commandId).filter((id) => !stored.has(id));
    const others =
      commandIds.length === 0
        ? []
        : await this.insist(() => this.commands.change({ commandIds }, (command) => sent(command, at)));
    const told = [...steps.filter(({ command }) => stored.has(command.commandId)), ...others];
    await this.insist(() => this.tell(told, at));
  }

  /** Repeats work while the database is away; not once the service is to stop. */
  private async insist<T>(work: () => Promise<T>): Promise<T> {
    for (;;) {
      try {
        return await work();
      } catch (error) {
        if (this.stopping.signal.aborted) throw error;
        this.complain(error);
      }
      await sleep(RETRY_MS, undefined, { signal: this.stopping.signal }).catch(() => undefined);
    }
  }

  private async eventsOf(steps: readonly Step[], at: Date): Promise<readonly DomainEvent[]> {
    if (steps.length === 0) return [];
    const owners = await this.registry.identify(steps.map(({ command }) => command.deviceId));
    return steps.flatMap((step) => commandEvents(step, owners.get(step.command.deviceId) ?? NOBODYS, at));
  }

  private async quietly(work: () => Promise<void>): Promise<void> {
    try {
      await work();
    } catch (error) {
      this.complain(error);
    }
  }

  private complain(error: unknown): void {
    const problem = problemOf(error);
    if (problem !== this.lastProblem) this.logger.warn(`Commands wait: ${problem}`);
    this.lastProblem = problem;
  }
}

/** For the log: what has a code is the database's or the network's, whose messages may quote what was to be stored. */
function problemOf(error: unknown): string {
  if (!(error instanceof Error)) return 'unknown error';
  return 'code' in error && typeof error.code === 'string' ? error.code : error.message;
}
