import type { DomainEvent, Principal } from '#kernel';
import { mayHear, measuredBy, passes, reachOf, type StreamFilter } from '../domain/stream-filter.js';

/** How a kind of watcher receives its messages. */
export interface FrameFormat {
  /** The bytes of messages. */
  encode(messages: readonly StreamMessage[]): Buffer;
}

/** An event as watchers read it. */
export interface StreamMessage {
  readonly id: string;
  readonly type: string;
  /** The whole message, JSON. */
  readonly text: string;
}

/** Someone who watches the stream. */
export interface Watcher {
  readonly principal: Principal;
  readonly filter: StreamFilter;
  readonly format: FrameFormat;
  /**
   * Must neither throw nor wait.
   * @param count how many messages these are.
   */
  send(frames: Buffer, count: number): void;
}

/** Watchers who see the same: what one of them is to be told, all are. */
export class Group {
  /** By the format they read. */
  readonly members = new Map<FrameFormat, Set<Watcher>>();

  constructor(private readonly first: Watcher) {}

  /** Whether they may and want to see an event. */
  admits(event: DomainEvent): boolean {
    return mayHear(this.first.principal, event) && passes(this.first.filter, event);
  }
}

/** Under what a group is found; a group without any is asked of each event. */
type Index = Map<string | number, Set<Group>>;

/**
 * All watchers, found by what they want: an event is compared with those groups only that name its device, or else its
 * patient, its type or its metrics, and with those that name nothing.
 */
export class Audience {
  private readonly watchers = new Set<Watcher>();
  private readonly groups = new Map<string, Group>();
  private readonly byDevice: Index = new Map();
  private readonly byPatient: Index = new Map();
  private readonly byType: Index = new Map();
  private readonly byMetric: Index = new Map();
  private readonly unnarrowed = new Set<Group>();

  get size(): number {
    return this.watchers.size;
  }

  add(watcher: Watcher): void {
    if (this.watchers.has(watcher)) return;
    this.watchers.add(watcher);
    const key = keyOf(watcher);
    let group = this.groups.get(key);
    if (!group) {
      group = new Group(watcher);
      this.groups.set(key, group);
      for (const place of this.placesOf(watcher)) enter(place, group);
    }
    const { members } = group;
    const alike = members.get(watcher.format);
    if (alike) alike.add(watcher);
    else members.set(watcher.format, new Set([watcher]));
  }

  remove(watcher: Watcher): void {
    if (!this.watchers.delete(watcher)) return;
    const key = keyOf(watcher);
    const group = this.groups.get(key);
    const alike = group?.members.get(watcher.format);
    if (!group || !alike) return;
    alike.delete(watcher);
    if (alike.size > 0) return;
    group.members.delete(watcher.format);
    if (group.members.size > 0) return;
    this.groups.delete(key);
    for (const place of this.placesOf(watcher)) leave(place, group);
  }

  /** Whether somebody may want to hear what a device measures; where not, its messages need not be decoded. */
  concerns(device: { readonly deviceId: string; readonly patientId: number }): boolean {
    if (this.unnarrowed.size > 0 || this.byMetric.size > 0 || this.byType.has('device.data.received'))
      return true;
    return this.byDevice.has(device.deviceId) || this.byPatient.has(device.patientId);
  }

  /** The groups that are to hear of events, and of which of them: their places in the list. */
  match(events: readonly DomainEvent[]): ReadonlyMap<Group, readonly number[]> {
    const wanted = new Map<Group, number[]>();
    events.forEach((event, place) => {
      const ask = (groups: ReadonlySet<Group> | undefined): void => {
        if (!groups) return;
        for (const group of groups) {
          const places = wanted.get(group);
          // Found under two metrics, say.
          if (places?.at(-1) === place || !group.admits(event)) continue;
          if (places) places.push(place);
          else wanted.set(group, [place]);
        }
      };
      ask(this.unnarrowed);
      if (this.byDevice.size > 0 && event.deviceId !== null) ask(this.byDevice.get(event.deviceId));
      if (this.byPatient.size > 0 && event.patientId !== null) ask(this.byPatient.get(event.patientId));
      if (this.byType.size > 0) ask(this.byType.get(event.type));
      if (this.byMetric.size > 0) for (const metric of measuredBy(event)) ask(this.byMetric.get(metric));
    });
    return wanted;
  }

  /** Where a watcher's group is entered: under what narrows it most. */
  private placesOf({
    principal,
    filter,
  }: Watcher): readonly (readonly [Index, string | number] | Set<Group>)[] {
    const under = (index: Index, keys: Iterable<string | number>): (readonly [Index, string | number])[] =>
      [...keys].map((key) => [index, key] as const);
    if (filter.deviceIds) return under(this.byDevice, filter.deviceIds);
    if (principal.patientId !== null) return under(this.byPatient, [principal.patientId]);
    if (filter.patientIds) return under(this.byPatient, filter.patientIds);
    // Metrics narrow data events only: others would have to be found besides.
    if (filter.metricTypes && filter.events?.size === 1 && filter.events.has('device.data.received'))
      return under(this.byMetric, filter.metricTypes);
    if (filter.events) return under(this.byType, filter.events);
    return [this.unnarrowed];
  }
}

function enter(place: readonly [Index, string | number] | Set<Group>, group: Group): void {
  if (place instanceof Set) {
    place.add(group);
    return;
  }
  const [index, key] = place;
  const groups = index.get(key);
  if (groups) groups.add(group);
  else index.set(key, new Set([group]));
}

function leave(place: readonly [Index, string | number] | Set<Group>, group: Group): void {
  if (place instanceof Set) {
    place.delete(group);
    return;
  }
  const [index, key] = place;
  const groups = index.get(key);
  groups?.delete(group);
  if (groups?.size === 0) index.delete(key);
}

/** The same for watchers who see the same. */
function keyOf({ principal, filter }: Watcher): string {
  const sorted = (set: ReadonlySet<string | number> | undefined): unknown => set && [...set].sort();
  return JSON.stringify([
    reachOf(principal),
    sorted(filter.deviceIds) ?? null,
    sorted(filter.patientIds) ?? null,
    sorted(filter.metricTypes) ?? null,
    sorted(filter.events) ?? null,
  ]);
}
