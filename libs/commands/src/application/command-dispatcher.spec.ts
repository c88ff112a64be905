import { EventBus, type Clock, type DomainEvent } from '#kernel';
import type { DeviceRegistry } from '#devices';
import type { Command, Step } from '../domain/command.js';
import type { Change, CommandRepository } from '../ports/command.repository.js';
import { CommandSender, type Hold, type Sending } from '../ports/command-sender.js';
import { CommandDispatcher } from './command-dispatcher.js';
import type { CommandHerald } from './command-herald.js';

/** What has queued commands, a device's in their order: `a1` is the first of device `a`. */
class FakeLedger {
  readonly queued: string[] = [];
  readonly sent: string[] = [];
  readonly putBackIds: string[] = [];
  private readonly claimed = new Set<string>();
  /** What comes of a renewal. */
  renewing = (held: readonly string[]): Promise<readonly string[]> => Promise.resolve(held);

  claim(_claim: string, deviceIds: readonly string[]): Promise<readonly Command[]> {
    const mine = this.queued.filter((id) => deviceIds.includes(id.charAt(0)) && !this.claimed.has(id));
    for (const id of mine) this.claimed.add(id);
    return Promise.resolve(mine.map(commandOf));
  }

  settle(_claim: string, steps: readonly Step[]): Promise<readonly Change[]> {
    for (const { command } of steps) {
      this.queued.splice(this.queued.indexOf(command.commandId), 1);
      this.sent.push(command.commandId);
    }
    return Promise.resolve(steps.map(({ command }) => ({ command, news: [], earlier: [] })));
  }

  putBack(_claim: string, commandIds: readonly string[]): Promise<void> {
    for (const id of commandIds) this.claimed.delete(id);
    this.putBackIds.push(...commandIds);
    return Promise.resolve();
  }

  change(): Promise<readonly Change[]> {
    return Promise.resolve([]);
  }

  renew(): Promise<readonly string[]> {
    return this.renewing(this.queued.filter((id) => this.claimed.has(id)));
  }

  /** For good: here nobody takes up again what was given back. */
  release(): Promise<void> {
    return Promise.resolve();
  }

  devicesToServe(): Promise<readonly string[]> {
    return Promise.resolve([...new Set(this.queued.map((id) => id.charAt(0)))]);
  }
}

function commandOf(commandId: string): Command {
  return { commandId, deviceId: commandId.charAt(0), status: 'queued' } as Command;
}

/** A broker that knows who listens. */
class FakeSender extends CommandSender {
  readonly available = true;
  readonly tellsUnheard = true;
  readonly listening = new Set<string>();
  tries = 0;
  open: () => void = () => undefined;
  /** How long the broker takes to answer. */
  delay = 0;
  readonly received: string[] = [];

  onAvailable(listener: () => void): void {
    this.open = listener;
  }

  async send(commands: readonly Command[], _now: Date, hold: Hold): Promise<readonly Sending[]> {
    this.tries += 1;
    const sendings = commands.map((command): Sending => {
      if (!hold.has(command)) return { kind: 'unsent' };
      if (!this.listening.has(command.deviceId)) return { kind: 'unheard' };
      this.received.push(command.commandId);
      return { kind: 'taken' };
    });
    if (this.delay > 0) await new Promise((resolve) => setTimeout(resolve, this.delay));
    return sendings;
  }
}

const HERALD = {
  announce: () => undefined,
  withdrawTold: () => Promise.resolve(),
  catchUp: () => Promise.resolve(),
  drain: () => Promise.resolve(),
} as unknown as CommandHerald;

describe('a command that reached nobody, of a device that nobody has heard of since', () => {
  let ledger: FakeLedger;
  let sender: FakeSender;
  let bus: EventBus;
  let dispatcher: CommandDispatcher;
  /** When devices were last heard of. */
  let seen: Map<string, Date>;

  const clock: Clock = { now: () => new Date() };
  const registry = {
    heardSince: (deviceIds: readonly string[], since: Date) =>
      Promise.resolve(new Set(deviceIds.filter((id) => (seen.get(id) ?? new Date(0)) >= since))),
  } as unknown as DeviceRegistry;
  const settle = (): Promise<void> => jest.advanceTimersByTimeAsync(0);
  const tidy = async (): Promise<void> => {
    await dispatcher.tidy();
    await settle();
  };
  const hears = (type: DomainEvent['type'], late = false): void =>
    bus.announce([{ type, deviceId: 'a', late, data: {} } as unknown as DomainEvent]);

  beforeEach(async () => {
    jest.useFakeTimers();
    ledger = new FakeLedger();
    sender = new FakeSender();
    bus = new EventBus(() => undefined);
    seen = new Map();
    dispatcher = new CommandDispatcher(
      ledger as unknown as CommandRepository,
      sender,
      HERALD,
      registry,
      { since: new Date() },
      clock,
      bus,
    );
    sender.open();
    await jest.advanceTimersByTimeAsync(10);
    seen.set('a', new Date(0));
    ledger.queued.push('a1', 'a2');
    await dispatcher.serve(['a']);
    expect({ tries: sender.tries, back: ledger.putBackIds }).toEqual({ tries: 1, back: ['a1', 'a2'] });
  });
  afterEach(async () => {
    await dispatcher.drain();
    jest.useRealTimers();
  });

  it('is tried again after one second, and twice as long each time, but not in between', async () => {
    const times: number[] = [];
    for (let second = 0; second < 40; second += 1) {
      const before = sender.tries;
      dispatcher.serveSoon(['a']);
      await tidy();
      if (sender.tries > before) times.push(second);
      await jest.advanceTimersByTimeAsync(1_000);
    }
    expect(times).toEqual([1, 3, 7, 15, 31]);
    sender.listening.add('a');
    await jest.advanceTimersByTimeAsync(30_000);
    await tidy();
    expect(ledger.sent).toEqual(['a1', 'a2']);
  });

  it.each<[string, () => void]>([
    ['has sent data', () => hears('device.data.received')],
    ['is connected', () => hears('device.connected')],
    ['answers another', () => dispatcher.heardOf(['b', 'a'])],
    ['may be at a broker that is back again', () => sender.open()],
  ])('goes out at once when the device %s', async (_what, happens) => {
    sender.listening.add('a');
    happens();
    await settle();
    expect(ledger.sent).toEqual(['a1', 'a2']);
  });

  it('is not tried because of what the device said long ago', async () => {
    hears('device.data.received', true);
    await settle();
    expect(sender.tries).toBe(1);
  });

  it('is sent when the ledger of devices says that it was heard of, whoever listens', async () => {
    seen.set('a', new Date());
    await tidy();
    expect(ledger.sent).toEqual(['a1', 'a2']);
  });

  it('is forgotten when it is queued no more', async () => {
    ledger.queued.length = 0;
    await jest.advanceTimersByTimeAsync(1_000);
    await tidy();
    ledger.queued.push('a3');
    await tidy();
    expect(sender.tries).toBe(2);
    // As one that is kept back for the first time.
    await jest.advanceTimersByTimeAsync(1_000);
    await tidy();
    expect(sender.tries).toBe(3);
  });
});

describe('what is left of a claim while the broker is slow to answer', () => {
  let ledger: FakeLedger;
  let sender: FakeSender;
  let dispatcher: CommandDispatcher;
  let asked: number;
  let heardSince: () => Promise<ReadonlySet<string>>;

  beforeEach(() => {
    jest.useFakeTimers();
    ledger = new FakeLedger();
    sender = new FakeSender();
    asked = 0;
    heardSince = () => Promise.resolve(new Set());
    const registry = {
      heardSince: () => {
        asked += 1;
        return heardSince();
      },
    } as unknown as DeviceRegistry;
    dispatcher = new CommandDispatcher(
      ledger as unknown as CommandRepository,
      sender,
      HERALD,
      registry,
      { since: new Date() },
      { now: () => new Date() },
      new EventBus(() => undefined),
    );
    sender.listening.add('a');
    ledger.queued.push('a1', 'a2', 'a3');
  });
  afterEach(async () => {
    const drained = dispatcher.drain();
    await jest.advanceTimersByTimeAsync(10_000);
    await drained;
    jest.useRealTimers();
  });

  /** The first is answered after that time; every second what is due is seen to. */
  const firstTakes = async (seconds: number): Promise<void> => {
    sender.delay = seconds * 1_000;
    void dispatcher.serve(['a']);
    await jest.advanceTimersByTimeAsync(0);
    expect(sender.received).toEqual(['a1']);
    for (let second = 1; second < seconds; second += 1) {
      await jest.advanceTimersByTimeAsync(1_000);
      void dispatcher.tidy();
    }
    sender.delay = 0;
    await jest.advanceTimersByTimeAsync(1_000);
  };

  it('is sent where the claim was renewed', async () => {
    await firstTakes(20);
    expect(sender.received).toEqual(['a1', 'a2', 'a3']);
  });

  it.each<[string, (held: readonly string[]) => Promise<readonly string[]>]>([
    ['the ledger was away', () => Promise.reject(new Error('away'))],
    [
      'the ledger is slow',
      () => new Promise((resolve) => setTimeout(() => resolve(['a1', 'a2', 'a3']), 9_000)),
    ],
    ['all were lost', () => Promise.resolve([])],
  ])('is not where %s', async (_what, renewing) => {
    ledger.renewing = renewing;
    await firstTakes(9);
    expect(sender.received).toEqual(['a1']);
  });

  it('is sent without those that were ended meanwhile', async () => {
    ledger.renewing = (held) => Promise.resolve(held.filter((id) => id !== 'a2'));
    await firstTakes(2);
    expect(sender.received).toEqual(['a1', 'a3']);
  });

  it('is not where the process has stood still, whichever clock has seen it', async () => {
    sender.delay = 1_000;
    void dispatcher.serve(['a']);
    await jest.advanceTimersByTimeAsync(0);
    jest.setSystemTime(Date.now() + 8_000);
    await jest.advanceTimersByTimeAsync(1_000);
    expect(sender.received).toEqual(['a1']);
  });

  it('waits no longer for whether the device was heard of', async () => {
    sender.listening.clear();
    heardSince = () => Promise.reject(new Error('away'));
    const served = dispatcher.serve(['a']);
    await jest.advanceTimersByTimeAsync(8_500);
    await served;
    const before = asked;
    await jest.advanceTimersByTimeAsync(5_000);
    expect({ asked, back: ledger.putBackIds }).toEqual({ asked: before, back: ['a1', 'a2', 'a3'] });
  });
});
