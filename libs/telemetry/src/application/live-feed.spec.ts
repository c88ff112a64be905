import { setImmediate as nextTurn } from 'node:timers/promises';
import { EventBus, Principal, type DomainEvent } from '#kernel';
import { NO_FILTER } from '../domain/stream-filter.js';
import { StreamLog, type LogEntry, type NotedEvent } from '../ports/stream-log.js';
import type { FrameFormat, Watcher } from './audience.js';
import { LiveFeed } from './live-feed.js';
import { StreamReplay } from './stream-replay.js';
import { Subscription } from './subscription.js';

class Log extends StreamLog {
  readonly noted: NotedEvent[] = [];
  readonly opened = Promise.resolve();
  readonly epoch = 7;
  append = (): Promise<void> => Promise.resolve();
  settled = (): Promise<void> => Promise.resolve();
  repeated = (): Promise<ReadonlyMap<LogEntry, never>> => Promise.resolve(new Map<LogEntry, never>());
  stretches = (): Promise<[]> => Promise.resolve([]);
  read = (): Promise<[]> => Promise.resolve([]);
  note(events: readonly NotedEvent[]): Promise<void> {
    this.noted.push(...events);
    return Promise.resolve();
  }
}

const format: FrameFormat = { encode: (messages) => Buffer.from(messages.map(({ id }) => id).join()) };
const event = (id: string, place?: number): DomainEvent => ({
  id,
  type: 'device.connected',
  deviceId: 'a',
  tenant: 'default',
  patientId: 1,
  time: '2024-01-23T10:30:00.000Z',
  data: {},
  ...(place !== undefined && { logged: { epoch: 7, place, index: 0 } }),
});

describe('LiveFeed', () => {
  let bus: EventBus;
  let log: Log;
  let feed: LiveFeed;
  beforeEach(async () => {
    bus = new EventBus((error) => {
      throw error;
    });
    log = new Log();
    feed = new LiveFeed(bus, log);
    feed.open([], {
      gate: () => null,
      told: () => undefined,
      entered: () => undefined,
      reach: () => Promise.resolve(),
    });
    await feed.opened;
  });

  const watcher = (): Watcher & { readonly sent: string[] } => {
    const sent: string[] = [];
    const send = (frames: Buffer): number => sent.push(frames.toString());
    return { principal: Principal.fromClaims({ role: 'admin' }), filter: NO_FILTER, format, send, sent };
  };

  it('sends at once, together, what is told in one turn', async () => {
    const present = watcher();
    feed.add(present);
    await Promise.all([bus.publish([event('x', 1), event('y', 2)]), bus.publish([event('z', 3)])]);
    await nextTurn();
    expect(present.sent).toEqual(['7.1.0.0_x,7.2.0.0_y,7.3.0.0_z']);
  });

  it('tells who is added of nothing before its position, though it was not sent yet, and of all behind it', async () => {
    const [present, added] = [watcher(), watcher()];
    feed.add(present);
    void bus.publish([event('x', 1)]);
    expect(feed.position.toString()).toBe('7.1.0.0');
    feed.add(added);
    void bus.publish([event('y', 2)]);
    await nextTurn();
    expect(present.sent).toEqual(['7.1.0.0_x', '7.2.0.0_y']);
    expect(added.sent).toEqual(['7.2.0.0_y']);
  });

  it('tells who has left of nothing any more', async () => {
    const leaving = watcher();
    feed.add(leaving);
    void bus.publish([event('x', 1)]);
    feed.leave(leaving);
    await nextTurn();
    expect(leaving.sent).toEqual([]);
  });

  it('tells who asks anew in the turn of an event of all, and of each once', async () => {
    const sent: string[] = [];
    const outlet = {
      format,
      maxBuffer: 1_000,
      isFull: false,
      write: (frames: Buffer) => void sent.push(frames.toString()),
      drained: () => Promise.resolve(true),
    };
    const { principal } = watcher();
    const subscription = (): Subscription =>
      new Subscription(feed, new StreamReplay(log), outlet, principal, NO_FILTER);
    const before = subscription();
    before.begin();
    void bus.publish([event('x', 1)]);
    before.end();
    expect(sent).toEqual(['7.1.0.0_x']);
    subscription().begin();
    void bus.publish([event('y', 2)]);
    await nextTurn();
    expect(sent).toEqual(['7.1.0.0_x', '7.2.0.0_y']);
  });

  it('has those written down that no stored message tells of, and counts them apart', async () => {
    const present = watcher();
    feed.add(present);
    await bus.publish([event('x', 1), event('y'), event('z', 2)]);
    await nextTurn();
    expect(log.noted.map(({ place, other, event: { id } }) => [place, other, id])).toEqual([[1, 1, 'y']]);
    expect(present.sent).toEqual(['7.1.0.0_x,7.1.0.1_y,7.2.0.1_z']);
  });
});
