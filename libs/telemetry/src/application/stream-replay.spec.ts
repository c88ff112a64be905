import { setImmediate as nextTurn } from 'node:timers/promises';
import { Principal, type DomainEvent } from '#kernel';
import { NO_FILTER } from '../domain/stream-filter.js';
import { StreamPosition } from '../domain/stream-position.js';
import {
  StreamLog,
  type LoggedMessage,
  type LogEntry,
  type LogRow,
  type Stretch,
} from '../ports/stream-log.js';
import type { StreamMessage } from './audience.js';
import { StreamReplay, type Listener } from './stream-replay.js';

const eventOf = (id: string, size: number): DomainEvent => ({
  id,
  type: 'device.connected',
  deviceId: 'a',
  tenant: 'default',
  patientId: 1,
  time: '2024-01-23T10:30:00.000Z',
  data: { text: 'x'.repeat(size) },
});

/** One run of 1,000 events of other kinds, a row each; ten to a page. */
class Log extends StreamLog {
  readonly opened = Promise.resolve();
  readonly epoch = 7;
  reads = 0;
  readingNow = 0;
  mostReading = 0;
  failing = false;

  constructor(private readonly size: number) {
    super();
  }

  append = (): Promise<void> => Promise.resolve();
  note = (): Promise<void> => Promise.resolve();
  settled = (): Promise<void> => Promise.resolve();
  repeated = (): Promise<ReadonlyMap<LogEntry, never>> => Promise.resolve(new Map<LogEntry, never>());

  stretches(after: StreamPosition, until: StreamPosition): Promise<readonly Stretch[]> {
    return Promise.resolve([{ after, until, begunAt: 0 }]);
  }

  async read({ until }: Stretch, after: StreamPosition, from: LogRow | null): Promise<readonly LogRow[]> {
    this.reads += 1;
    this.readingNow += 1;
    this.mostReading = Math.max(this.mostReading, this.readingNow);
    await nextTurn();
    this.readingNow -= 1;
    if (this.failing) throw new Error('the database is away');
    const begin = Math.max(from?.other ?? 0, after.other) + 1;
    const numbers = Array.from({ length: 10 }, (_, index) => begin + index);
    return numbers
      .filter((other) => other <= (until?.other ?? 0))
      .map((other) => ({
        epoch: 7,
        at: other,
        place: 0,
        other,
        entries: () => [{ place: 0, event: eventOf(String(other), this.size) }],
      }));
  }
}

/** One run of three messages in one row, each with two measurements. */
class BatchLog extends Log {
  override read(_: Stretch, __: StreamPosition, from: LogRow | null): Promise<readonly LogRow[]> {
    const entries = (): readonly LoggedMessage[] => [1, 2, 3].map(messageOf);
    return Promise.resolve(from ? [] : [{ epoch: 7, at: 1, place: 3, other: 0, entries }]);
  }
}

const messageOf = (place: number): LoggedMessage => ({
  place,
  topic: 'devices/a/data',
  payload: Buffer.alloc(100),
  device: {
    deviceId: 'a',
    tenant: 'default',
    patientId: 1,
    patientSince: null,
    type: 'weight_scale',
    decommissionedAt: null,
  },
  receivedAt: new Date('2024-01-23T10:31:00Z'),
  dated: true,
  events: 2,
  parse: () => ({
    readings: [60, 61].map((value) => ({
      metric_type: 'weight',
      value,
      unit: 'kg',
      timestamp: '2024-01-23T10:30:00Z',
    })),
  }),
  id: () => `m${place}`,
});

class Client implements Listener {
  readonly principal = Principal.fromClaims({ role: 'admin' });
  readonly filter = NO_FILTER;
  readonly told: string[] = [];
  unread = 0;
  isGone = false;
  private readonly waiting: (() => void)[] = [];

  /** @param room for how many characters it has room before it has to be waited for. */
  constructor(private readonly room = Infinity) {}

  tell(messages: readonly StreamMessage[]): void {
    for (const { id, text } of messages) {
      this.told.push(id);
      this.unread += text.length;
    }
  }

  hasRoom(): boolean {
    return this.unread <= this.room;
  }

  async roomAgain(): Promise<boolean> {
    if (!this.isGone && !this.hasRoom()) await new Promise<void>((resolve) => this.waiting.push(resolve));
    return !this.isGone;
  }

  read(): void {
    this.unread = 0;
    for (const resolve of this.waiting.splice(0)) resolve();
  }

  get isWaitedFor(): boolean {
    return this.waiting.length > 0;
  }
}

const start = StreamPosition.startOf(7);
const end = start.afterOther(1_000);
const all = Array.from({ length: 1_000 }, (_, index) => `7.0.0.${index + 1}_${index + 1}`);

describe('what is told again', () => {
  it('comes whole and in order to each of many, for a few of whom the log is read at once', async () => {
    const log = new Log(100);
    const replay = new StreamReplay(log);
    const clients = Array.from({ length: 20 }, () => new Client());
    expect(await Promise.all(clients.map((client) => replay.tell(start, end, client)))).toEqual(
      clients.map(() => true),
    );
    for (const { told } of clients) expect(told).toEqual(all);
    expect(log.mostReading).toBe(4);
  });

  it('goes on where it was for one that has to be waited for, without a gap or a repeat', async () => {
    const log = new Log(100);
    const replay = new StreamReplay(log);
    const client = new Client(3_000);
    const done = replay.tell(start, end, client);
    let most = 0;
    for (let ended = false; !ended;) {
      ended = await Promise.race([done, nextTurn().then(() => false)]);
      most = Math.max(most, client.unread);
      if (client.isWaitedFor) client.read();
    }
    expect(client.told).toEqual(all);
    // What it had room for, and one message.
    expect(most).toBeLessThan(3_500);
  });

  it('reads nothing for those who do not read, and lets the others by', async () => {
    const log = new Log(100);
    const replay = new StreamReplay(log);
    const stalled = Array.from({ length: 10 }, () => new Client(1_000));
    const left = stalled.map((client) => replay.tell(start, end, client));
    const reading = new Client();
    expect(await replay.tell(start, end, reading)).toBe(true);
    expect(reading.told).toEqual(all);
    expect(stalled.every(({ isWaitedFor }) => isWaitedFor)).toBe(true);
    const { reads } = log;
    for (let turn = 0; turn < 10; turn += 1) await nextTurn();
    expect(log.reads).toBe(reads);
    for (const client of stalled) {
      client.isGone = true;
      client.read();
    }
    expect(await Promise.all(left)).toEqual(stalled.map(() => false));
  });

  it('gives its turn back when the log does not answer', async () => {
    const log = new Log(100);
    const replay = new StreamReplay(log);
    log.failing = true;
    const failed = await Promise.allSettled(
      Array.from({ length: 10 }, () => replay.tell(start, end, new Client())),
    );
    expect(failed.every(({ status }) => status === 'rejected')).toBe(true);
    log.failing = false;
    const client = new Client();
    expect(await replay.tell(start, end, client)).toBe(true);
    expect(client.told).toEqual(all);
  });

  it.each([
    [1, 0, 3, 1, ['7.1.1.0_m1.1', '7.2.0.0_m2', '7.2.1.0_m2.1', '7.3.0.0_m3', '7.3.1.0_m3.1']],
    [1, 1, 2, 1, ['7.2.0.0_m2', '7.2.1.0_m2.1']],
    [1, 1, 2, 0, ['7.2.0.0_m2']],
    [2, 0, 3, 0, ['7.2.1.0_m2.1', '7.3.0.0_m3']],
    [2, 0, 2, 1, ['7.2.1.0_m2.1']],
    [2, 1, 2, 1, []],
  ])('is cut inside a row, from %i.%i to %i.%i', async (place, index, lastPlace, lastIndex, ids) => {
    const client = new Client();
    const [after, until] = [start.afterMessage(place, index), start.afterMessage(lastPlace, lastIndex)];
    expect(await new StreamReplay(new BatchLog(0)).tell(after, until, client)).toBe(true);
    expect(client.told).toEqual(ids);
  });
});
