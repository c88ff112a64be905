import fc from 'fast-check';
import { EventBus, type Clock, type DomainEvent } from '#kernel';
import { batteryLow, statusChanged, type KeptChange, type LowBattery } from '../domain/device-events.js';
import type { Device } from '../domain/device.js';
import { NEVER_SEEN } from '../domain/presence.fixture.js';
import { readStatusReport, type StatusReport } from '../domain/status-report.js';
import {
  PresenceRepository,
  type PresenceDecision,
  type PresenceNews,
  type UntoldChange,
} from '../ports/presence.repository.js';
import { PresenceHerald } from './presence-herald.js';
import { PresenceKeeper, type ReceivedReport } from './presence-keeper.js';

const at = (second: number): Date => new Date(Date.UTC(2024, 0, 23, 10, 30, second));
const LIMIT = 20;

/** Devices in memory; what is kept is what was decided. */
class MemoryPresences extends PresenceRepository {
  readonly devices = new Map<string, Device>();
  untold: PresenceNews[] = [];
  /** Lots of silent devices that will be found. */
  silent: (PresenceNews | null)[] = [];
  readonly told: PresenceNews[] = [];
  /** What is to be told of, and those of it that others may be telling. */
  readonly kept = new Map<number, KeptChange>();
  readonly atOthers = new Set<number>();
  private changes = 0;

  update(ids: readonly string[], decide: (device: Device) => PresenceDecision | null): Promise<PresenceNews> {
    const news = ids.map((id): PresenceNews => {
      const device = this.devices.get(id);
      const decision = device && decide(device);
      if (!device || !decision) return { changes: [], lowBatteries: [] };
      this.devices.set(id, { ...device, presence: decision.presence });
      const { deviceId, tenant, patientId } = device;
      const owner = { deviceId, tenant, patientId };
      return {
        changes: decision.changes.map((change) => ({ ...change, ...owner, id: (this.changes += 1) })),
        lowBatteries: decision.lowBatteries.map(({ percent, since }) => ({
          ...owner,
          battery: percent,
          since: new Date(since),
        })),
      };
    });
    for (const change of news.flatMap(({ changes }) => changes)) this.kept.set(change.id, change);
    return Promise.resolve({
      changes: news.flatMap(({ changes }) => changes),
      lowBatteries: news.flatMap(({ lowBatteries }) => lowBatteries),
    });
  }

  refreshSeen(arrivals: ReadonlyMap<string, Date>): Promise<readonly string[]> {
    return Promise.resolve(
      [...arrivals.keys()].filter((id) => this.devices.get(id)?.presence.status !== 'online'),
    );
  }

  expireSilent(): Promise<PresenceNews | null> {
    return Promise.resolve(this.silent.shift() ?? null);
  }

  claimUntold(): Promise<PresenceNews> {
    return Promise.resolve(this.untold.shift() ?? { changes: [], lowBatteries: [] });
  }

  claimUpTo(changes: ReadonlyMap<number, string>): Promise<readonly UntoldChange[]> {
    const untold = [...this.kept.values()]
      .filter((kept) => [...changes].some(([id, device]) => device === kept.deviceId && kept.id <= id))
      .sort((a, b) => a.id - b.id);
    return Promise.resolve(
      untold.map((change) => ({
        change,
        isClaimed: !changes.has(change.id) && !this.atOthers.has(change.id),
      })),
    );
  }

  untoldAmong(changes: readonly number[]): Promise<readonly number[]> {
    return Promise.resolve(changes.filter((id) => this.kept.has(id)));
  }

  markTold(news: PresenceNews): Promise<void> {
    for (const { id } of news.changes) this.kept.delete(id);
    this.told.push(news);
    return Promise.resolve();
  }

  history(): Promise<never[]> {
    return Promise.resolve([]);
  }
}

function house(handle: (events: readonly DomainEvent[]) => void = () => undefined): {
  readonly presences: MemoryPresences;
  readonly herald: PresenceHerald;
  readonly keeper: PresenceKeeper;
  readonly heard: DomainEvent[];
} {
  const presences = new MemoryPresences();
  const heard: DomainEvent[] = [];
  const bus = new EventBus(() => undefined);
  bus.subscribe({
    name: 'listener',
    handle: (events) => {
      handle(events);
      heard.push(...events);
    },
  });
  const clock: Clock = { now: () => at(59) };
  const herald = new PresenceHerald(presences, bus);
  for (const [id, deviceId] of ['a', 'b'].entries()) {
    presences.devices.set(deviceId, {
      id,
      deviceId,
      tenant: 'default',
      patientId: 7,
      type: 'weight_scale',
      model: null,
      serialNumber: null,
      createdAt: at(0),
      decommissionedAt: null,
      patientSince: null,
      presence: NEVER_SEEN,
    });
  }
  return { presences, herald, keeper: new PresenceKeeper(presences, herald, clock), heard };
}

function received(
  deviceId: string,
  status: StatusReport['status'],
  second: number,
  more: Partial<ReceivedReport> & { readonly battery?: number } = {},
): ReceivedReport {
  const { battery = null, ...rest } = more;
  return {
    deviceId,
    report: {
      status,
      battery,
      signalStrength: null,
      session: null,
      dated: null,
      will: false,
      retained: false,
      mayHaveWaited: false,
    },
    receivedAt: at(second),
    name: null,
    isRepeat: false,
    ...rest,
  };
}

/** Which of a battery's charges, in percent, begin to be low. */
function discharges(charges: readonly number[]): number[] {
  let isLow = false;
  return charges.filter((charge) => {
    const begins = !isLow && charge < LIMIT;
    if (begins || charge >= LIMIT + 5) isLow = begins;
    return begins;
  });
}

const eventsOf = ({ changes, lowBatteries }: PresenceNews): DomainEvent[] => [
  ...changes.map(statusChanged),
  ...lowBatteries.map(batteryLow),
];
const kinds = (news: PresenceNews): string[] =>
  eventsOf(news).map(({ type, deviceId }) => `${type} ${deviceId}`);

describe('PresenceKeeper', () => {
  it('takes the messages of each device in their order, and tells of all that happened', async () => {
    const { keeper } = house();
    const reports = [
      received('a', 'online', 0),
      received('b', 'online', 0),
      received('a', 'offline', 1),
      received('nobody', 'online', 1),
      received('a', 'online', 2),
    ];
    expect(kinds(await keeper.take(reports, LIMIT))).toEqual([
      'device.connected a',
      'device.disconnected a',
      'device.connected a',
      'device.connected b',
    ]);
  });

  it('takes what is delivered again in once, and equal messages twice', async () => {
    const { keeper, presences } = house();
    const first = [received('a', 'online', 0, { name: '1.x' }), received('a', 'offline', 1, { name: '2.y' })];
    expect(kinds(await keeper.take(first, LIMIT))).toHaveLength(2);
    const again = first.map((message) => ({ ...message, isRepeat: true }));
    expect(kinds(await keeper.take(again, LIMIT))).toEqual([]);
    // Delivered again, but not taken in before.
    const late = received('a', 'online', 2, { name: '3.x', isRepeat: true });
    expect(kinds(await keeper.take([late], LIMIT))).toEqual(['device.connected a']);
    // Packet ids come back.
    expect(kinds(await keeper.take([received('a', 'offline', 3, { name: '2.y' })], LIMIT))).toEqual([
      'device.disconnected a',
    ]);
    for (let n = 0; n < 50; n += 1) await keeper.take([received('a', 'online', 4, { name: `${n}` })], LIMIT);
    expect(presences.devices.get('a')?.presence.memory.heard).toHaveLength(8);
  });

  it('tells of a battery that was low, though it is charged at once', async () => {
    const { keeper } = house();
    const reports = [
      received('a', 'online', 0, { battery: 10 }),
      received('a', 'online', 1, { battery: 90 }),
    ];
    expect(eventsOf(await keeper.take(reports, LIMIT))).toContainEqual({
      id: `a.battery.${at(0).toISOString()}`,
      type: 'device.battery.low',
      deviceId: 'a',
      tenant: 'default',
      patientId: 7,
      time: at(0).toISOString(),
      data: { battery: 10 },
    });
  });

  it('tells of each discharge once, wherever batches begin and end, and again of none', async () => {
    const reading = fc.record({
      deviceId: fc.constantFrom('a', 'b'),
      battery: fc.oneof(
        fc.constant(null),
        fc.double({ min: 0, max: 100, noNaN: true }),
        // Around the limit, where it matters.
        fc.integer({ min: -20, max: 70 }).map((tenths) => LIMIT + tenths / 10),
      ),
      isLast: fc.boolean(),
      isTwice: fc.boolean(),
    });
    await fc.assert(
      fc.asyncProperty(fc.array(reading, { minLength: 1, maxLength: 40 }), async (readings) => {
        const { keeper, presences } = house();
        const told: LowBattery[] = [];
        let batch: ReceivedReport[] = [];
        let batches = 0;
        for (const [index, { deviceId, battery, isLast, isTwice }] of readings.entries()) {
          const report = readStatusReport({ status: 'online', battery }, at(0));
          batch.push({ deviceId, report, receivedAt: at(batches), name: `${index}`, isRepeat: false });
          if (!isLast && index < readings.length - 1) continue;
          told.push(...(await keeper.take(batch, LIMIT)).lowBatteries);
          const again = batch.slice(-8).map((message) => ({ ...message, isRepeat: true }));
          if (isTwice) told.push(...(await keeper.take(again, LIMIT)).lowBatteries);
          batch = [];
          batches += 1;
        }
        for (const deviceId of ['a', 'b']) {
          const own = told.filter((low) => low.deviceId === deviceId);
          const expected = discharges(
            readings.flatMap((one) =>
              one.deviceId === deviceId && one.battery !== null ? [one.battery] : [],
            ),
          );
          expect(own.map(({ battery }) => battery)).toEqual(expected.map(Math.floor));
          expect(new Set(own.map(({ since }) => since.getTime())).size).toBe(own.length);
          // All of it is kept until it is noted that it has been told.
          const kept = presences.devices.get(deviceId)?.presence.memory.untoldLow;
          expect(kept?.map(({ since }) => since)).toEqual(own.map(({ since }) => since.getTime()));
        }
      }),
      { numRuns: 500 },
    );
  });

  it('looks for silent devices until there are no more, or until it is another’s turn', async () => {
    const { keeper, presences } = house();
    const change = { status: 'offline', cause: 'timeout', at: at(0), session: null, battery: null } as const;
    const lot = Array.from({ length: 5_000 }, (_, id) => ({
      ...change,
      signalStrength: null,
      lastSeen: null,
      id,
      deviceId: 'a',
      tenant: 'default',
      patientId: 7,
    }));
    const full = { changes: lot, lowBatteries: [] };
    presences.silent = [full, { changes: lot.slice(1), lowBatteries: [] }, full];
    await keeper.expireSilent(at(58));
    expect(presences.silent).toHaveLength(1);
    presences.silent = [full, null, full];
    await keeper.expireSilent(at(58));
    expect(presences.silent).toHaveLength(1);
  });
});

describe('PresenceHerald', () => {
  it('notes what it has told of', async () => {
    const { keeper, presences, heard } = house();
    await keeper.noteSeen(new Map([['a', { at: at(5), waited: null }]]));
    await new Promise(setImmediate);
    expect(heard.map(({ type, data }) => [type, data['cause']])).toEqual([['device.connected', 'data']]);
    expect(presences.told.map(kinds)).toEqual([['device.connected a']]);
  });

  it('leaves what nobody would hear for later, and then tells it under the same id', async () => {
    let isDeaf = true;
    const ids: string[] = [];
    const { keeper, herald, presences, heard } = house((events) => {
      ids.push(...events.map(({ id }) => id));
      if (isDeaf) throw new Error('deaf');
    });
    await keeper.noteSeen(new Map([['a', { at: at(5), waited: null }]]));
    await new Promise(setImmediate);
    expect(presences.told).toEqual([]);
    isDeaf = false;
    const { presence, ...device } = presences.devices.get('a') as Device;
    const change = {
      ...device,
      id: 1,
      status: 'online',
      cause: 'data',
      at: at(5),
      session: null,
      battery: presence.battery,
      signalStrength: null,
      lastSeen: at(5),
    } as const;
    presences.untold = [{ changes: [change], lowBatteries: [] }];
    await herald.tellUntold();
    expect(heard.map(({ id }) => id)).toEqual(['a.status.1']);
    expect(ids).toEqual(['a.status.1', 'a.status.1']);
    expect(presences.told).toHaveLength(1);
  });
});
