import { EventBus, NOBODYS, type DomainEvent } from '#kernel';
import type { DeviceRegistry } from '#devices';
import type { Command, CommandStatus } from '../domain/command.js';
import type { Change, CommandRepository } from '../ports/command.repository.js';
import { CommandHerald } from './command-herald.js';

const AT = new Date('2026-01-01T00:00:00Z');
const OWNERS = { get: () => NOBODYS };
/** Times the herald waits, and a little. */
const NOTED_MS = 110;
const LOOKED_MS = 110;
const WAITED_MS = 1_010;

const commandOf = (commandId: string): Command => ({
  id: 1,
  commandId,
  deviceId: 'scale_1',
  command: 'measure_now',
  parameters: {},
  status: 'queued',
  createdBy: 'somebody',
  createdAt: AT,
  sentAt: null,
  acknowledgedAt: null,
  completedAt: null,
  expiresAt: AT,
  result: null,
  error: null,
  attempts: 0,
  lateResponse: null,
  claimedUntil: null,
  patientSince: null,
});

const change = (
  commandId: string,
  id: number,
  status: CommandStatus,
  earlier: readonly number[] = [],
): Change => ({ command: commandOf(commandId), news: [{ id, status, at: AT }], earlier });

/** A herald, a receiver that takes events when told to, and a ledger that says what it is told to. */
function stage() {
  const heard: DomainEvent[][] = [];
  const answers: { take: () => void; fail: () => void }[] = [];
  const bus = new EventBus(() => undefined);
  bus.subscribe({
    name: 'broker',
    handle: (events) => {
      heard.push([...events]);
      return new Promise((resolve, reject) =>
        answers.push({ take: resolve, fail: () => reject(new Error('refused')) }),
      );
    },
  });
  const ledger = {
    claimUntold: jest.fn(() => Promise.resolve<readonly Change[]>([])),
    claimHeld: jest.fn((held: readonly number[]) =>
      Promise.resolve<{ changes: readonly Change[]; waiting: readonly number[] }>({
        changes: [],
        waiting: held,
      }),
    ),
    untoldAmong: jest.fn((news: readonly number[]) => Promise.resolve(news)),
    markTold: jest.fn(() => Promise.resolve()),
  };
  const identified = { now: (): void => undefined };
  const registry = {
    identify: () => new Promise((resolve) => (identified.now = () => resolve(new Map()))),
  };
  const herald = new CommandHerald(
    ledger as unknown as CommandRepository,
    registry as unknown as DeviceRegistry,
    bus,
  );
  const told = (): string[][] => heard.map((events) => events.map(({ id }) => id));
  return { herald, ledger, heard, told, answers, identified };
}

/** Until everything has happened that is due within that time. */
const pass = (ms = 0): Promise<void> => jest.advanceTimersByTimeAsync(ms);

describe('CommandHerald', () => {
  beforeEach(() => jest.useFakeTimers());
  afterEach(() => jest.useRealTimers());

  it('tells the statuses of a command one after the other, and does not hold others up', async () => {
    const { herald, told, answers, ledger } = stage();
    herald.announce([change('a', 1, 'queued')], OWNERS);
    herald.announce([change('a', 2, 'sent', [1])], OWNERS);
    herald.announce([change('b', 3, 'queued')], OWNERS);
    expect(told()).toEqual([['a.queued'], ['b.queued']]);
    answers[0]?.take();
    await pass();
    expect(told()).toEqual([['a.queued'], ['b.queued'], ['a.sent']]);
    answers[1]?.take();
    answers[2]?.take();
    await pass(NOTED_MS);
    expect(ledger.markTold.mock.calls.flat(2).sort()).toEqual([1, 2, 3]);
  });

  it('keeps the order where whose the device is has to be looked up first', async () => {
    const { herald, told, answers, identified } = stage();
    herald.announce([change('a', 1, 'sent')]);
    herald.announce([change('a', 2, 'acknowledged', [1])], OWNERS);
    expect(told()).toEqual([]);
    identified.now();
    await pass();
    expect(told()).toEqual([['a.sent']]);
    answers[0]?.take();
    await pass();
    expect(told()).toEqual([['a.sent'], ['a.acknowledged']]);
  });

  it('does not tell what follows news that could not be told: both are told at the catch-up, in order', async () => {
    const { herald, told, answers, ledger, identified } = stage();
    herald.announce([change('a', 1, 'queued')], OWNERS);
    herald.announce([change('a', 2, 'cancelled', [1])], OWNERS);
    answers[0]?.fail();
    await pass(NOTED_MS);
    expect(told()).toEqual([['a.queued']]);
    expect(ledger.markTold).not.toHaveBeenCalled();
    ledger.claimUntold.mockResolvedValueOnce([change('a', 1, 'queued'), change('a', 2, 'cancelled')]);
    const caughtUp = herald.catchUp();
    await pass();
    identified.now();
    await pass();
    expect(ledger.claimUntold).toHaveBeenLastCalledWith(expect.anything(), []);
    expect(told()).toEqual([['a.queued'], ['a.queued', 'a.cancelled']]);
    answers[1]?.take();
    await caughtUp;
    await pass(NOTED_MS);
    expect(ledger.markTold).toHaveBeenCalledWith([1, 2]);
  });

  it('holds back what follows news of others, until these are told or late', async () => {
    const { herald, told, ledger, identified } = stage();
    herald.announce([change('a', 2, 'acknowledged', [1])], OWNERS);
    herald.announce([change('a', 3, 'completed', [1, 2])], OWNERS);
    await pass(LOOKED_MS);
    expect(ledger.claimHeld).toHaveBeenLastCalledWith([2, 3], []);
    expect(told()).toEqual([]);
    // Late: they are this process's to tell.
    ledger.claimHeld.mockResolvedValueOnce({
      changes: [change('a', 1, 'sent'), change('a', 2, 'acknowledged'), change('a', 3, 'completed')],
      waiting: [],
    });
    await pass(LOOKED_MS);
    identified.now();
    await pass();
    expect(told()).toEqual([['a.sent', 'a.acknowledged', 'a.completed']]);
    await pass(3 * LOOKED_MS);
    expect(ledger.claimHeld).toHaveBeenCalledTimes(2);
  });

  it('does not look again for what others have told, and does while the database is away', async () => {
    const { herald, told, ledger } = stage();
    ledger.claimHeld.mockRejectedValueOnce(new Error('away'));
    herald.announce([change('a', 2, 'sent', [1])], OWNERS);
    await pass(LOOKED_MS);
    ledger.claimHeld.mockResolvedValueOnce({ changes: [], waiting: [] });
    await pass(3 * LOOKED_MS);
    expect(ledger.claimHeld).toHaveBeenCalledTimes(2);
    expect(told()).toEqual([]);
  });

  it('goes on where the broker is long in taking news, and withdraws what others have told meanwhile', async () => {
    const { herald, told, heard, ledger } = stage();
    herald.announce([change('a', 1, 'queued')], OWNERS);
    herald.announce([change('a', 2, 'cancelled', [1])], OWNERS);
    await herald.withdrawTold();
    expect(ledger.untoldAmong).not.toHaveBeenCalled();
    await pass(WAITED_MS);
    expect(told()).toEqual([['a.queued'], ['a.cancelled']]);
    ledger.untoldAmong.mockResolvedValueOnce([2]);
    await herald.withdrawTold();
    expect(heard.flat().map(({ outdated }) => outdated ?? false)).toEqual([true, false]);
  });

  it('waits a moment for what is being told when the service stops, and notes it', async () => {
    const { herald, answers, ledger } = stage();
    herald.announce([change('a', 1, 'queued')], OWNERS);
    const drained = herald.drain();
    answers[0]?.take();
    await drained;
    expect(ledger.markTold).toHaveBeenCalledWith([1]);
  });
});
