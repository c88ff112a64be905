import {
  type DomainError,
  EventBus,
  MessageRejected,
  Principal,
  type DomainEvent,
  type Transaction,
} from '#kernel';
import type { DeviceIdentity, DeviceRegistry } from '#devices';
import type { Reading, ReadingRepository, Waveform } from '#readings';
import {
  RejectedMessageRepository,
  type HeldMessage,
  type QuarantinePage,
  type Release,
} from '../ports/rejected-message.repository.js';
import { QuarantineDesk } from './quarantine-desk.js';

const RECEIVED = new Date('2024-01-23T10:30:00.000Z');
const ADMIN = Principal.fromClaims({ role: 'admin' });
const device: DeviceIdentity = {
  deviceId: 'device_123',
  tenant: 'default',
  patientId: 7,
  patientSince: null,
  type: 'ecg_monitor',
  decommissionedAt: null,
};

const message = (payload: Record<string, unknown>, about: Partial<HeldMessage> = {}): HeldMessage => ({
  deviceId: 'device_123',
  retained: false,
  receivedAt: RECEIVED,
  bytes: Buffer.byteLength(JSON.stringify(payload)),
  parse: () => payload,
  id: (firstReceived) => (firstReceived ? `undated ${firstReceived.toISOString()}` : 'dated'),
  ...about,
});

/** A quarantine of one message, whose id is 1. */
class OneMessage extends RejectedMessageRepository {
  constructor(private readonly held: HeldMessage) {
    super();
  }

  page(): Promise<QuarantinePage> {
    return Promise.resolve({ messages: [], next: null });
  }

  find(id: number): Promise<HeldMessage | null> {
    return Promise.resolve(id === 1 ? this.held : null);
  }

  async release<T>(id: number, store: (transaction: Transaction) => Promise<T>): Promise<Release<T> | null> {
    if (id !== 1) return null;
    try {
      return { stored: await store({} as Transaction) };
    } catch (error) {
      if (error instanceof MessageRejected) return { rejection: error };
      throw error;
    }
  }
}

function deskWith(
  held: HeldMessage,
  registered: readonly DeviceIdentity[] = [device],
): { desk: QuarantineDesk; readings: Reading[]; waveforms: Waveform[]; events: DomainEvent[] } {
  const readings: Reading[] = [];
  const waveforms: Waveform[] = [];
  const events: DomainEvent[] = [];
  const bus = new EventBus((error) => {
    throw error;
  });
  bus.subscribe({ name: 'test', handle: (announced) => void events.push(...announced) });
  const registry: Pick<DeviceRegistry, 'identify'> = {
    identify: (ids) =>
      Promise.resolve(
        new Map(
          registered.filter((each) => ids.includes(each.deviceId)).map((each) => [each.deviceId, each]),
        ),
      ),
  };
  const repository: Pick<ReadingRepository, 'insertReadings' | 'insertWaveforms'> = {
    insertReadings: (_transaction, stored) => {
      readings.push(...stored);
      return Promise.resolve(stored.length);
    },
    insertWaveforms: (_transaction, stored) => Promise.resolve(void waveforms.push(...stored)),
  };
  const desk = new QuarantineDesk(
    new OneMessage(held),
    registry as DeviceRegistry,
    repository as ReadingRepository,
    bus,
  );
  return { desk, readings, waveforms, events };
}

const refused = (kind: string, code: string, members = {}): DomainError =>
  expect.objectContaining({ kind, code, members }) as DomainError;
const beat = { metric_type: 'heart_rate', value: 70 };

describe('QuarantineDesk', () => {
  it('dates an undated measurement by its first receipt', async () => {
    const { desk, readings, events } = deskWith(message(beat));
    expect(await desk.retry(1, ADMIN)).toMatchObject({ deviceId: 'device_123', readings: 1 });
    expect(readings).toEqual([
      expect.objectContaining({ value: 70, timestamp: RECEIVED.toISOString(), receivedAt: RECEIVED }),
    ]);
    expect(events).toEqual([
      expect.objectContaining({
        id: `undated ${RECEIVED.toISOString()}`,
        type: 'device.data.received',
        patientId: 7,
        time: RECEIVED.toISOString(),
        late: true,
      }),
    ]);
  });

  it('rejects again what would grow too large', async () => {
    const readings = Array.from({ length: 1_000 }, () => beat);
    const { desk, readings: stored } = deskWith(message({ readings, note: 'x'.repeat(200_000) }));
    await expect(desk.retry(1, ADMIN)).rejects.toEqual(
      refused('conflict', 'still_rejected', { reason: 'payload_too_large' }),
    );
    expect(stored).toEqual([]);
  });

  it('leaves a measurement its own date', async () => {
    const timestamp = '2024-01-23T10:00:00.000Z';
    const { desk, readings, events } = deskWith(message({ ...beat, timestamp }, { retained: true }));
    await desk.retry(1, ADMIN);
    expect(readings).toEqual([expect.objectContaining({ timestamp, receivedAt: RECEIVED })]);
    expect(events.map(({ id }) => id)).toEqual(['dated']);
  });

  it('tells of each entry of a buffered upload under an id of its own', async () => {
    const ecg = { metric_type: 'ecg', lead: 'II', sampling_rate: 250, samples: [0.1] };
    const timestamp = '2024-01-23T10:00:00Z';
    const { desk, waveforms, events } = deskWith(message({ timestamp, readings: [beat, ecg, beat] }));
    expect(await desk.retry(1, ADMIN)).toMatchObject({ readings: 2 });
    expect(waveforms).toHaveLength(1);
    expect(events.map(({ id }) => id)).toEqual(['dated', 'dated.1', 'dated.2']);
  });

  it.each<[string, HeldMessage, readonly DeviceIdentity[], string]>([
    ['of nobody', message(beat), [], 'unknown_device'],
    ['of no possible device', message(beat, { deviceId: 'a+' }), [device], 'unknown_device'],
    [
      'of a device that is no more',
      message(beat),
      [{ ...device, decommissionedAt: RECEIVED }],
      'decommissioned_device',
    ],
    ['retained without a date', message(beat, { retained: true }), [device], 'invalid_payload'],
    ['out of range', message({ ...beat, value: 7_000 }), [device], 'value_out_of_range'],
    [
      'ahead of its receipt',
      message({ ...beat, timestamp: '2024-01-23T10:36:00Z' }),
      [device],
      'timestamp_in_future',
    ],
  ])('says why a measurement %s stays', async (_what, held, registered, reason) => {
    const { desk, readings, events } = deskWith(held, registered);
    await expect(desk.retry(1, ADMIN)).rejects.toEqual(refused('conflict', 'still_rejected', { reason }));
    expect({ readings, events }).toEqual({ readings: [], events: [] });
  });

  it('retries measurements only', async () => {
    const { desk } = deskWith(message(beat, { deviceId: null }));
    await expect(desk.retry(1, ADMIN)).rejects.toEqual(refused('conflict', 'not_retryable'));
  });

  it('knows what it does not keep', async () => {
    const { desk } = deskWith(message(beat));
    await expect(desk.retry(2, ADMIN)).rejects.toEqual(refused('not_found', 'rejected_message_not_found'));
  });

  it('shows nothing to a token confined to one patient', async () => {
    const confined = Principal.fromClaims({ role: 'admin', patient_id: 7 });
    const { desk, readings } = deskWith(message(beat));
    await expect(desk.page({}, null, 1, confined)).rejects.toEqual(
      refused('forbidden', 'insufficient_scope'),
    );
    await expect(desk.retry(1, confined)).rejects.toEqual(refused('forbidden', 'insufficient_scope'));
    expect(readings).toEqual([]);
  });
});
