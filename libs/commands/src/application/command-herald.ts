import { Injectable } from '@nestjs/common';
import { EventBus, NOBODYS, type DomainEvent } from '#kernel';
import { DeviceRegistry } from '#devices';
import { commandEvent, type Command, type CommandOwner } from '../domain/command.js';
import { CommandRepository, type Change, type News } from '../ports/command.repository.js';

/** News told of together, at most, of those that others did not get to tell. */
const LOT = 500;
/** What has been told of is noted together with what follows. */
const NOTE_AFTER_MS = 100;
/** How often to look whether others have told what stands before news of this process. */
const LOOK_AGAIN_MS = 100;
/** So long a status waits for the one before it to be taken; then that is in a queue which keeps their order. */
const WAIT_MS = 1_000;
/** Of its time, the share that looking for what others have told meanwhile may take. */
const LOOK_SHARE = 0.05;

/** Whose each of the devices is. */
export type Owners = Pick<ReadonlyMap<string, CommandOwner>, 'get'>;

/** News this process is to tell of, or is telling of, or is about to note as told. */
interface Item {
  readonly command: Command;
  readonly news: News;
  readonly owners: Owners | undefined;
  readonly since: number;
  /** Once it is handed on. */
  event?: DomainEvent & { outdated?: boolean };
  isTold?: boolean;
}

/** The news of one command, in the order of its statuses: they are told of one after the other. */
interface Line {
  readonly commandId: string;
  waiting: Item[];
}

/**
 * Tells of what has become of commands. Whoever changed them tells of it at once; until that is noted, it is kept in the
 * ledger, and where a process dies in between, or could not tell, it is told later and under the same ids.
 *
 * The statuses of one command are told in their order, by whichever process: a status is told only when those before it
 * are gone from the news, or this process has told them itself.
 */
@Injectable()
export class CommandHerald {
  private readonly inHand = new Map<number, Item>();
  /** By command: those that something is being told of. */
  private readonly lines = new Map<string, Line>();
  /** News of this process that wait for others to tell what stands before them. */
  private readonly held = new Set<number>();
  private readonly telling = new Set<Promise<void>>();
  private told: number[] = [];
  private noteTimer: NodeJS.Timeout | undefined;
  private lookTimer: NodeJS.Timeout | undefined;
  private lookDue = 0;
  private isCatchingUp = false;
  private isClosed = false;

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
    const lines = this.take(changes, owners);
    if (lines.length === 0) return;
    const telling = this.tell(lines).finally(() => this.telling.delete(telling));
    this.telling.add(telling);
  }

  /**
   * Tells of what nobody got to tell of. Nothing while that is still being done.
   * @throws what the database says.
   */
  async catchUp(): Promise<void> {
    if (this.isCatchingUp) return;
    this.isCatchingUp = true;
    try {
      for (;;) {
        const changes = await this.commands.claimUntold(LOT, [...this.inHand.keys()]);
        if (changes.length === 0) return;
        await this.tell(this.take(changes));
      }
    } finally {
      this.isCatchingUp = false;
    }
  }

  /**
   * Looks for what others have told while this process could not: it is not published any more.
   * @throws what the database says.
   */
  async withdrawTold(): Promise<void> {
    const begun = performance.now();
    if (begun < this.lookDue) return;
    const late = [...this.inHand.values()].filter((item) => !item.isTold && item.since < begun - WAIT_MS);
    if (late.length === 0) return;
    const untold = new Set(await this.commands.untoldAmong(late.map(({ news }) => news.id)));
    for (const { event, news } of late) if (event && !untold.has(news.id)) event.outdated = true;
    this.lookDue = performance.now() + (performance.now() - begun) / LOOK_SHARE;
  }

  /** Notes what has been told of until now. Never rejects. */
  async flush(): Promise<void> {
    clearTimeout(this.noteTimer);
    this.noteTimer = undefined;
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

  /** Waits a moment for what is being told, and notes it. What waits for others is left to them. */
  async drain(): Promise<void> {
    this.isClosed = true;
    clearTimeout(this.lookTimer);
    await aMoment(Promise.all(this.telling));
    await this.flush();
  }

  /**
   * Takes news in hand, or holds them back where others are to tell of something before them.
   * @returns lines in which nothing is being told yet.
   */
  private take(changes: readonly Change[], owners?: Owners): Line[] {
    const begun: Line[] = [];
    const since = performance.now();
    for (const { command, news, earlier } of changes) {
      if (earlier.some((id) => !this.inHand.has(id))) {
        for (const { id } of news) this.held.add(id);
        this.lookSoon();
        continue;
      }
      for (const each of news) {
        if (this.inHand.has(each.id)) continue;
        const item: Item = { command, news: each, owners, since };
        this.inHand.set(each.id, item);
        const line = this.lines.get(command.commandId);
        if (line) {
          line.waiting.push(item);
        } else {
          const started: Line = { commandId: command.commandId, waiting: [item] };
          this.lines.set(command.commandId, started);
          begun.push(started);
        }
      }
    }
    return begun;
  }

  /** Tells of what waits in lines, and of what comes to wait there meanwhile. Never rejects. */
  private async tell(lines: readonly Line[]): Promise<void> {
    let open = lines;
    while (open.length > 0) {
      await this.tellNext(open);
      for (const line of open) if (line.waiting.length === 0) this.lines.delete(line.commandId);
      open = open.filter(({ waiting }) => waiting.length > 0);
    }
  }

  private async tellNext(lines: readonly Line[]): Promise<void> {
    const items = lines.flatMap((line) => line.waiting.splice(0));
    const ids = items.map(({ news }) => news.id);
    try {
      const events = this.eventsOf(items);
      const told = this.bus.publish(Array.isArray(events) ? events : await events).then(
        () => this.noteTold(items),
        () => this.letGo(ids, lines),
      );
      // Where the broker is away, those who listen to this process are not kept waiting.
      await aMoment(told);
    } catch {
      this.letGo(ids, lines);
    }
  }

  private eventsOf(items: readonly Item[]): DomainEvent[] | Promise<DomainEvent[]> {
    const unknown = items.filter(({ owners }) => !owners).map(({ command }) => command.deviceId);
    const make = (found?: Owners): DomainEvent[] =>
      items.map((item) => {
        const owner = (item.owners ?? found)?.get(item.command.deviceId) ?? NOBODYS;
        return (item.event = commandEvent(item.command, item.news, owner));
      });
    return unknown.length === 0 ? make() : this.registry.identify(unknown).then(make);
  }

  private noteTold(items: readonly Item[]): void {
    for (const item of items) {
      item.isTold = true;
      this.told.push(item.news.id);
    }
    this.noteTimer ??= setTimeout(() => void this.flush(), NOTE_AFTER_MS);
  }

  /** What could not be told is told later, and what follows it not before. */
  private letGo(ids: readonly number[], lines: readonly Line[]): void {
    for (const id of ids) this.inHand.delete(id);
    for (const { waiting } of lines) for (const { news } of waiting.splice(0)) this.inHand.delete(news.id);
  }

  private lookSoon(): void {
    if (this.held.size > 0 && !this.isClosed)
      this.lookTimer ??= setTimeout(() => void this.lookAgain(), LOOK_AGAIN_MS);
  }

  /** Tells of news that were held back, if what stands before them has been told or is late. */
  private async lookAgain(): Promise<void> {
    const held = [...this.held];
    try {
      const { changes, waiting } = await this.commands.claimHeld(held, [...this.inHand.keys()]);
      const still = new Set(waiting);
      for (const id of held) if (!still.has(id)) this.held.delete(id);
      this.announce(changes);
    } catch {
      // The database is away: they are held on.
    }
    this.lookTimer = undefined;
    this.lookSoon();
  }
}

/** Waits for work that never fails, but no longer than {@link WAIT_MS}. */
async function aMoment(work: Promise<unknown>): Promise<void> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<void>((resolve) => (timer = setTimeout(resolve, WAIT_MS)));
  await Promise.race([work, late]);
  clearTimeout(timer);
}
