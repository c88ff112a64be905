import { Injectable } from '@nestjs/common';
import { EventBus, type DomainEvent } from '#kernel';
import { batteryLow, statusChanged, type KeptChange } from '../domain/device-events.js';
import { PresenceRepository, type PresenceNews } from '../ports/presence.repository.js';

const LOT = 500;
/** How often to look whether others have told what stands before changes of this process. */
const LOOK_AGAIN_MS = 100;
/** How often to look whether others have told what this process can't get rid of. */
const WITHDRAW_MS = 1_000;
/** Of its time, the share that looking for that may take. */
const LOOK_SHARE = 0.05;

/** A change this process is to tell of. */
interface Item {
  readonly deviceId: string;
  readonly since: number;
  /** `held` behind those that others are to tell; `taken` by whoever tells it; `handed` over to the event bus. */
  state: 'held' | 'taken' | 'handed';
  event?: DomainEvent & { outdated?: boolean };
}

/** What may be told now, and the events that do. */
export interface Telling {
  readonly news: PresenceNews;
  readonly events: readonly DomainEvent[];
}

/**
 * Tells of what has become of devices. What is told of is kept until that is done: where a process dies in between,
 * another tells it, under the same ids.
 *
 * The changes of one device are told in their order, by whichever process: before one is told, those before it are gone
 * from what is kept, or this process has handed them over itself. What nobody has told for 5 s it takes over.
 */
@Injectable()
export class PresenceHerald {
  private readonly items = new Map<number, Item>();
  private readonly byEvent = new WeakMap<DomainEvent, Item>();
  private taking: Promise<unknown> = Promise.resolve();
  private timer: NodeJS.Timeout | undefined;
  private withdrawDue = 0;
  private isClosed = false;

  constructor(
    private readonly presences: PresenceRepository,
    private readonly bus: EventBus,
  ) {
    bus.subscribe({
      name: 'presence-herald',
      types: ['device.connected', 'device.disconnected'],
      handle: (events) => this.handedOver(events),
    });
  }

  /** Tells of it without being waited for. What can't be told now is told later. */
  announce(news: PresenceNews): void {
    void this.take(news)
      .then((telling) => this.tell(telling))
      .catch(() => undefined);
  }

  /** Tells of what others did not get to tell. @throws what the database or a receiver says. */
  async tellUntold(): Promise<void> {
    for (;;) {
      const news = await this.presences.claimUntold(LOT, [...this.items.keys()]);
      if (isEmpty(news)) return;
      await this.tell(await this.take(news));
    }
  }

  /**
   * Takes it in hand, with what is to be told before it. Never rejects.
   * @returns what the caller is to tell of, and to call {@link told} with. The rest is told as soon as it can be.
   */
  async take({ changes, lowBatteries }: PresenceNews): Promise<Telling> {
    for (const { id, deviceId } of changes) this.hold(id, deviceId);
    const ready = await this.release(changes.map(({ id }) => id));
    return {
      news: { changes: ready.map(({ change }) => change), lowBatteries },
      events: [...ready.map(({ event }) => event), ...lowBatteries.map(batteryLow)],
    };
  }

  /** Notes that it has been told of. Best effort: told again, it bears the same ids. */
  async told(news: PresenceNews): Promise<void> {
    if (isEmpty(news)) return;
    await this.presences.markTold(news).catch(() => undefined);
    for (const { id } of news.changes) this.items.delete(id);
  }

  /** What is held is left to others. */
  stop(): void {
    this.isClosed = true;
    clearTimeout(this.timer);
  }

  private async tell({ news, events }: Telling): Promise<void> {
    try {
      await this.bus.publish(events);
    } catch (error) {
      for (const { id } of news.changes) this.items.delete(id);
      throw error;
    }
    await this.told(news);
  }

  private hold(id: number, deviceId: string): void {
    if (!this.items.has(id)) this.items.set(id, { deviceId, since: performance.now(), state: 'held' });
  }

  /** @returns those that may be told now, each behind what is untold before it. One call after the other. */
  private release(
    ids: readonly number[],
  ): Promise<readonly { readonly change: KeptChange; readonly event: DomainEvent }[]> {
    const released = this.taking
      .then(() => this.inOrder(ids))
      // The database is away: they are held on.
      .catch((): KeptChange[] => [])
      .then((changes) => changes.map((change) => ({ change, event: this.begin(change) })));
    this.taking = released.finally(() => this.lookSoon());
    return released;
  }

  private begin(change: KeptChange): DomainEvent {
    const event = statusChanged(change);
    const { id, deviceId } = change;
    const item: Item = { deviceId, since: performance.now(), state: 'taken', event };
    this.items.set(id, item);
    this.byEvent.set(event, item);
    return event;
  }

  private async inOrder(ids: readonly number[]): Promise<KeptChange[]> {
    const held = new Map<number, string>();
    for (const id of ids) {
      const item = this.items.get(id);
      if (item?.state === 'held') held.set(id, item.deviceId);
    }
    if (held.size === 0) return [];
    const devices = new Set(held.values());
    const inHand = [...this.items].filter(
      ([, { deviceId, state }]) => state !== 'held' && devices.has(deviceId),
    );
    const untold = await this.presences.claimUpTo(
      held,
      inHand.map(([id]) => id),
    );
    const blocked = new Set<string>();
    const ready: KeptChange[] = [];
    for (const { change, isClaimed } of untold) {
      const { id, deviceId } = change;
      const state = this.items.get(id)?.state;
      const isMine = held.delete(id) || (isClaimed && state !== 'taken');
      if (state === 'handed') continue;
      if (!isMine) blocked.add(deviceId);
      else if (blocked.has(deviceId)) this.hold(id, deviceId);
      else ready.push(change);
    }
    // Others have told of these.
    for (const id of held.keys()) this.items.delete(id);
    return ready;
  }

  private handedOver(events: readonly DomainEvent[]): void {
    for (const event of events) {
      const item = this.byEvent.get(event);
      if (item) item.state = 'handed';
    }
  }

  private lookSoon(): void {
    if (this.items.size > 0 && !this.isClosed)
      this.timer ??= setTimeout(() => void this.look(), LOOK_AGAIN_MS);
  }

  private async look(): Promise<void> {
    const held = [...this.items].flatMap(([id, { state }]) => (state === 'held' ? [id] : []));
    const ready = await this.release(held);
    const news = { changes: ready.map(({ change }) => change), lowBatteries: [] };
    void this.tell({ news, events: ready.map(({ event }) => event) }).catch(() => undefined);
    await this.withdrawTold().catch(() => undefined);
    this.timer = undefined;
    this.lookSoon();
  }

  /** What others have told while this process could not is not published any more. */
  private async withdrawTold(): Promise<void> {
    const begun = performance.now();
    if (begun < this.withdrawDue) return;
    const late = [...this.items].filter(
      ([, { state, since }]) => state === 'handed' && since < begun - WITHDRAW_MS,
    );
    if (late.length === 0) return;
    const untold = new Set(await this.presences.untoldAmong(late.map(([id]) => id)));
    for (const [id, { event }] of late) if (event && !untold.has(id)) event.outdated = true;
    this.withdrawDue = performance.now() + Math.max(WITHDRAW_MS, (performance.now() - begun) / LOOK_SHARE);
  }
}

function isEmpty({ changes, lowBatteries }: PresenceNews): boolean {
  return changes.length === 0 && lowBatteries.length === 0;
}
