import { Injectable } from '@nestjs/common';
import { EventBus, NOBODYS, type DomainEvent } from '#kernel';
import { DeviceRegistry } from '#devices';
import { commandEvent, type CommandOwner } from '../domain/command.js';
import { CommandRepository, type Change } from '../ports/command.repository.js';

/** News told of together, at most, of those that others did not get to tell. */
const LOT = 500;
/** What has been told of is noted together with what follows. */
const NOTE_AFTER_MS = 100;

/** What is to be told, and which news that are. */
export interface Tidings {
  readonly events: readonly DomainEvent[];
  readonly news: readonly number[];
}

/** Whose each of the devices is. */
export type Owners = Pick<ReadonlyMap<string, CommandOwner>, 'get'>;

/**
 * Tells of what has become of commands. Whoever changed them tells of it at once; until that is noted, it is kept in the
 * ledger, and where a process dies in between, or could not tell, it is told later and under the same ids.
 */
@Injectable()
export class CommandHerald {
  /** News this process is about to tell of, or to note as told. */
  private readonly inHand = new Set<number>();
  private told: number[] = [];
  private timer: NodeJS.Timeout | undefined;
  private isCatchingUp = false;

  constructor(
    private readonly commands: CommandRepository,
    private readonly registry: DeviceRegistry,
    private readonly bus: EventBus,
  ) {}

  /**
   * Tells of changes without being waited for; what can't be told now is told later.
   * @param owners looked up unless given.
   */
  announce(changes: readonly Change[], owners?: Owners): void {
    if (owners) void this.tell(this.take(changes, owners)).catch(() => undefined);
    else void this.lookUpAndTell(changes).catch(() => undefined);
  }

  /**
   * Takes it on the caller to tell of changes, and to {@link noteTold} then. What this process is telling of already is
   * left out.
   */
  take(changes: readonly Change[], owners: Owners): Tidings {
    const events: DomainEvent[] = [];
    const taken: number[] = [];
    for (const { command, news } of changes) {
      for (const each of news) {
        if (this.inHand.has(each.id)) continue;
        this.inHand.add(each.id);
        taken.push(each.id);
        events.push(commandEvent(command, each, owners.get(command.deviceId) ?? NOBODYS));
      }
    }
    return { events, news: taken };
  }

  /** These news have been told of. */
  noteTold(news: readonly number[]): void {
    this.told.push(...news);
    if (this.told.length > 0) this.timer ??= setTimeout(() => void this.flush(), NOTE_AFTER_MS);
  }

  /**
   * Tells of what nobody got to tell of. Nothing while that is still being done.
   * @throws what the database or a receiver says.
   */
  async catchUp(): Promise<void> {
    if (this.isCatchingUp) return;
    this.isCatchingUp = true;
    try {
      for (;;) {
        const changes = await this.commands.claimUntold(LOT, [...this.inHand]);
        if (changes.length === 0) return;
        await this.lookUpAndTell(changes);
      }
    } finally {
      this.isCatchingUp = false;
    }
  }

  /** Notes what has been told of until now. Never rejects. */
  async flush(): Promise<void> {
    clearTimeout(this.timer);
    this.timer = undefined;
    const news = this.told;
    if (news.length === 0) return;
    this.told = [];
    try {
      await this.commands.markTold(news);
      for (const id of news) this.inHand.delete(id);
    } catch {
      // The database is away; what is told next takes them along.
      this.told.push(...news);
    }
  }

  private async lookUpAndTell(changes: readonly Change[]): Promise<void> {
    if (changes.length === 0) return;
    const owners = await this.registry.identify(changes.map(({ command }) => command.deviceId));
    await this.tell(this.take(changes, owners));
  }

  private async tell({ events, news }: Tidings): Promise<void> {
    try {
      await this.bus.publish(events);
    } catch (error) {
      for (const id of news) this.inHand.delete(id);
      throw error;
    }
    this.noteTold(news);
  }
}
