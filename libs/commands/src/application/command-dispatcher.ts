import { Injectable, Logger } from '@nestjs/common';
import { BackgroundWork, Clock, EventBus } from '#kernel';
import { DeviceRegistry } from '#devices';
import { cancelled, expired, sent, undeliverable, type Command, type Step } from '../domain/command.js';
import { CommandRepository, type Change, type NewCommand } from '../ports/command.repository.js';
import { DeviceHearing } from '../ports/device-hearing.js';
import { CommandSender, type Hold, type Sending } from '../ports/command-sender.js';
import { AttentiveSender } from './attentive-sender.js';
import { CarefulSender } from './careful-sender.js';
import { ClaimLease } from './claim-lease.js';
import { CommandHerald, type Owners } from './command-herald.js';
import { KeptBack } from './kept-back.js';
import { ServingLine } from './serving-line.js';

/** Devices served together: each may get as many commands as may be in flight. */
const DEVICES_A_ROUND = 200;
/** While one round waits for the broker, others go to the database. */
const ROUNDS = 4;
/** What is not a caller's order can wait for others, to be looked for together. */
const SOON_MS = 20;
/** Of its time, the share that looking for what was overlooked may take. */
const SWEEP_SHARE = 0.05;

/** An order that stands in the ledger. */
export interface EnteredOrder {
  readonly command: Command;
  /** The digest it was entered with, where that was done before. */
  readonly earlier: string | null;
  /** Settles when it has been tried to send it: what it has become, where that is known. Never rejects. */
  readonly served: Promise<Command | null>;
}

/**
 * Brings queued commands to devices that are there, in their order, and ends those whose time is over.
 *
 * A command is taken up by a claim in the ledger, published, and recorded as sent; no lock is held while the broker
 * answers. Whoever dies in between leaves a claim that lapses, and the command goes out again under its own id: the ledger
 * does not know whether the broker has it. Whoever comes back too late sends none of what is left ({@link ClaimLease}).
 *
 * What reached nobody, because the broker may have lost the device, stays queued ({@link AttentiveSender}). It goes out when
 * the device is heard of, and is tried from time to time for one that listens and says nothing ({@link KeptBack}).
 */
@Injectable()
export class CommandDispatcher {
  private readonly logger = new Logger('Commands');
  private readonly work = new BackgroundWork((problem) => this.logger.warn(`Commands wait: ${problem}`));
  private readonly line: ServingLine;
  private readonly careful: CarefulSender;
  private readonly attentive: AttentiveSender;
  private readonly keptBack = new KeptBack();
  /** What this process is at. */
  private readonly leases = new Set<ClaimLease>();
  private sweepDue = 0;
  private readonly soon = new Set<string>();
  private soonTimer: NodeJS.Timeout | undefined;

  constructor(
    private readonly commands: CommandRepository,
    private readonly sender: CommandSender,
    private readonly herald: CommandHerald,
    private readonly devices: DeviceRegistry,
    private readonly hearing: DeviceHearing,
    private readonly clock: Clock,
    bus: EventBus,
  ) {
    this.careful = new CarefulSender(sender);
    this.attentive = new AttentiveSender(this.careful, sender, (deviceIds, hold) =>
      this.heardAmong(deviceIds, hold),
    );
    this.line = new ServingLine(DEVICES_A_ROUND, ROUNDS, (deviceIds) => this.serveTogether(deviceIds));
    bus.subscribe({
      name: 'commands',
      types: ['device.connected'],
      handle: (events) => void this.serve(events.flatMap(({ deviceId }) => deviceId ?? [])),
    });
    bus.subscribe({
      name: 'commands-kept-back',
      types: ['device.data.received'],
      handle: (events) => {
        if (this.keptBack.size === 0) return;
        this.heardOf(events.flatMap(({ deviceId, late }) => (late ? [] : (deviceId ?? []))));
      },
    });
    bus.subscribe({
      name: 'commands-undeliverable',
      types: ['device.decommissioned', 'device.updated'],
      handle: (events) => {
        if (events.some(({ type, data }) => type === 'device.decommissioned' || data['reassigned'] === true))
          void this.cancelUndeliverable();
      },
    });
    sender.onAvailable(() => {
      this.keptBack.clear();
      void this.sweep();
    });
  }

  /**
   * Enters an order into the ledger, taken up already where the device is there and nothing is before it, and sends it.
   * @param owners knows whose the device is.
   * @throws what the ledger says.
   */
  async enter(order: NewCommand, owners: Owners): Promise<EnteredOrder> {
    const { deviceId } = order;
    const lease = new ClaimLease();
    const end = this.sender.available ? this.line.begin(deviceId) : null;
    try {
      const { change, earlier } = await this.commands.insert(order, end && lease.claim);
      this.herald.announce([change], owners);
      const { command } = change;
      if (end && command.claimedUntil && earlier === null) {
        lease.took([command]);
        return { command, earlier, served: this.sendTaken(lease, command, owners).finally(end) };
      }
      end?.();
      // Asked whether or not the device was online: it may have come just now, and then nobody else has seen this order.
      return { command, earlier, served: this.serve([deviceId]).then(() => null) };
    } catch (error) {
      end?.();
      throw error;
    }
  }

  /** Sends what is queued for devices that are online. Never rejects: what could not be sent stays queued. */
  async serve(deviceIds: Iterable<string>): Promise<void> {
    if (this.sender.available) await this.line.add(deviceIds);
  }

  /** Devices have said something: what was kept back for them may reach them now. */
  heardOf(deviceIds: Iterable<string>): void {
    const waiting = new Set([...deviceIds].filter((deviceId) => this.keptBack.has(deviceId)));
    if (waiting.size > 0) void this.serve(waiting);
  }

  /**
   * As {@link serve}, a moment later and together with others: for devices that may have more queued, or room for it. Those
   * for which something is kept back have their own time.
   */
  serveSoon(deviceIds: Iterable<string>): void {
    for (const deviceId of deviceIds) if (!this.keptBack.has(deviceId)) this.soon.add(deviceId);
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
    await this.work.attempt(() => this.renew());
    await this.expire();
    await this.forgetSuspects();
    await this.tryKeptBack();
    await this.work.attempt(() => this.herald.withdrawTold());
    // Not waited for: a broker that has fallen silent may take long to be told.
    if (this.sender.available) void this.work.attempt(() => this.herald.catchUp());
    // After a crash, or where the database was away in the wrong moment; what is sent as a rule does not wait for it.
    if (performance.now() < this.sweepDue) return;
    const begun = performance.now();
    await this.cancelUndeliverable();
    await this.sweep();
    this.sweepDue = performance.now() + (performance.now() - begun) / SWEEP_SHARE;
  }

  /** Begins nothing more, and resolves when nothing is being sent. */
  async drain(): Promise<void> {
    this.work.stop();
    clearTimeout(this.soonTimer);
    await this.line.close();
    await this.herald.drain();
  }

  private async renew(): Promise<void> {
    if (this.leases.size === 0) return;
    const renewals = [...this.leases].map((lease) => ({ claim: lease.claim, took: lease.renewal() }));
    const renewed = new Set(await this.commands.renew(renewals.map(({ claim }) => claim)));
    for (const { took } of renewals) took(renewed);
  }

  /** Those that have been heard of. Nobody is taken for heard where that is not known while the commands are held. */
  private async heardAmong(deviceIds: readonly string[], hold: Hold): Promise<ReadonlySet<string>> {
    let heard: ReadonlySet<string> = new Set();
    await this.work.attempt(async () => {
      heard = await this.work.insist(
        () => this.heardOfAmong(deviceIds),
        () => hold.holds,
      );
    });
    return heard;
  }

  private async heardOfAmong(deviceIds: readonly string[]): Promise<ReadonlySet<string>> {
    const { since } = this.hearing;
    return since ? this.devices.heardSince(deviceIds, since) : new Set();
  }

  private async sweep(): Promise<void> {
    await this.work.attempt(async () => {
      if (!this.sender.available) return;
      const deviceIds = await this.commands.devicesToServe(this.clock.now());
      void this.serve(deviceIds.filter((deviceId) => !this.keptBack.has(deviceId)));
    });
  }

  /** Tries again what is due, and devices that were heard of, by whichever replica and in whatever they said. */
  private async tryKeptBack(): Promise<void> {
    const { keptBack } = this;
    if (keptBack.size === 0 || !this.sender.available) return;
    await this.work.attempt(async () => {
      const heard = await this.heardOfAmong(keptBack.deviceIds);
      void this.serve(new Set([...heard, ...keptBack.due(performance.now())]));
    });
  }

  /** Ends commands whose time is over; for devices that had them in flight there is room now. */
  private async expire(): Promise<void> {
    await this.work.attempt(async () => {
      for (;;) {
        const now = this.clock.now();
        const changes = await this.commands.change({ overAt: now }, (command) => expired(command, now));
        if (changes.length === 0) return;
        this.herald.announce(changes);
        this.serveSoon(changes.map(({ command }) => command.deviceId));
      }
    });
  }

  /** Cancels what is queued for devices that will not come back. What they were sent ends when its time is over. */
  private async cancelUndeliverable(): Promise<void> {
    await this.work.attempt(async () => {
      const now = this.clock.now();
      this.herald.announce(await this.commands.change('undeliverable', (command) => cancelled(command, now)));
    });
  }

  private async serveTogether(deviceIds: readonly string[]): Promise<void> {
    await this.work.attempt(async () => {
      const lease = new ClaimLease();
      const commands = await this.commands.claim(lease.claim, deviceIds, this.clock.now());
      const served = new Set(commands.map(({ deviceId }) => deviceId));
      for (const deviceId of deviceIds) if (!served.has(deviceId)) this.keptBack.forget(deviceId);
      if (commands.length === 0) return;
      lease.took(commands);
      await this.send(lease, commands);
    });
  }

  /** Sends a command that is taken up. @returns what it has become; null where that is not known. */
  private async sendTaken(lease: ClaimLease, command: Command, owners: Owners): Promise<Command | null> {
    let changes: readonly Change[] = [];
    await this.work.attempt(async () => {
      changes = await this.send(lease, [command], owners);
    });
    return changes[0]?.command ?? null;
  }

  /** @param owners looked up unless given. @throws where the broker did not take all of them, or their claim has lapsed. */
  private async send(
    lease: ClaimLease,
    commands: readonly Command[],
    owners?: Owners,
  ): Promise<readonly Change[]> {
    const { claim } = lease;
    this.leases.add(lease);
    try {
      const sendings = await this.attentive.send(commands, () => this.clock.now(), lease);
      const changes = await this.record(claim, commands, sendings);
      this.herald.announce(changes, owners);
      await this.keepBack(claim, commands, sendings);
      if (sendings.some(({ kind }) => kind === 'unsent' || kind === 'unanswered')) {
        await this.commands.release(claim);
        throw new Error('not all of them are known to have gone out');
      }
      this.work.wentWell();
      // Whoever found the queue taken up has left to us what came in meanwhile.
      this.serveSoon(commands.map(({ deviceId }) => deviceId));
      return changes;
    } finally {
      this.leases.delete(lease);
    }
  }

  /** The broker has them, or refuses them: that must get into the ledger, or they would be sent again. */
  private async record(
    claim: string,
    commands: readonly Command[],
    sendings: readonly Sending[],
  ): Promise<readonly Change[]> {
    const at = this.clock.now();
    const steps = commands.flatMap((command, index) => stepOf(command, sendings[index], at) ?? []);
    if (steps.length === 0) return [];
    const settled = await this.work.insist(() => this.commands.settle(claim, steps));
    const stored = new Set(settled.map(({ command }) => command.commandId));
    // Answered, or at their end, before this was known.
    const others = commands
      .filter(({ commandId }, index) => sendings[index]?.kind === 'taken' && !stored.has(commandId))
      .map(({ commandId }) => commandId);
    if (others.length === 0) return settled;
    const changed = await this.work.insist(() =>
      this.commands.change({ commandIds: others }, (command) => sent(command, at)),
    );
    return [...settled, ...changed];
  }

  /** Puts back what reached nobody. */
  private async keepBack(
    claim: string,
    commands: readonly Command[],
    sendings: readonly Sending[],
  ): Promise<void> {
    const unheard = commands.filter((_command, index) => sendings[index]?.kind === 'unheard');
    for (const [index, { deviceId }] of commands.entries())
      if (sendings[index]?.kind === 'taken') this.keptBack.forget(deviceId);
    if (unheard.length === 0) return;
    await this.work.insist(() =>
      this.commands.putBack(
        claim,
        unheard.map(({ commandId }) => commandId),
      ),
    );
    const now = performance.now();
    for (const deviceId of new Set(unheard.map((command) => command.deviceId)))
      this.keptBack.keep(deviceId, now);
  }

  private async forgetSuspects(): Promise<void> {
    const { suspected } = this.careful;
    if (suspected.length === 0) return;
    await this.work.attempt(async () => this.careful.keepOnly(await this.commands.queuedAmong(suspected)));
  }
}

/** What the sending has made of a command; null: nothing. */
function stepOf(command: Command, sending: Sending | undefined, at: Date): Step | null {
  if (sending?.kind === 'taken') return sent(command, at);
  return sending?.kind === 'refused' ? undeliverable(command, sending.error, at) : null;
}
