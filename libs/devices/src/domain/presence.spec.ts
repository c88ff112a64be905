import fc from 'fast-check';
import { MessageRejected } from '#kernel';
import type { Presence } from './device.js';
import { readStatusReport, report, seen, type StatusReport } from './presence.js';

const NOW = new Date('2024-01-23T10:30:00Z');
const at = (second: number): Date => new Date(Date.UTC(2024, 0, 23, 10, 30, second));

const NEVER_SEEN: Presence = {
  status: 'inactive',
  lastSeen: null,
  connectedSince: null,
  session: null,
  battery: null,
  signalStrength: null,
};

function says(status: StatusReport['status'], session: string | null = null): StatusReport {
  return { status, session, battery: null, signalStrength: null };
}

/** The presence after reports a second apart, and what each of them changed. */
function after(...reports: StatusReport[]): { presence: Presence; changes: unknown[] } {
  let presence = NEVER_SEEN;
  const changes = reports.map((message, index) => {
    const outcome = report(presence, message, at(index));
    presence = outcome.presence;
    return outcome.change;
  });
  return { presence, changes };
}

describe('readStatusReport', () => {
  it("reads the seed's payload", () => {
    const payload = { device_id: 'device_123', status: 'online', battery: 85, signal_strength: -45 };
    expect(readStatusReport(payload, NOW)).toEqual({
      status: 'online',
      battery: 85,
      signalStrength: -45,
      session: null,
    });
  });

  it.each([
    [{ battery: 0 }, { battery: 0 }],
    [{ battery: 100 }, { battery: 100 }],
    [{ battery: 84.6 }, { battery: 85 }],
    [
      { battery: null, session: null },
      { battery: null, session: null },
    ],
    [{ signal_strength: -200 }, { signalStrength: -200 }],
    [{ signal_strength: 200 }, { signalStrength: 200 }],
    [{ session: 17 }, { session: '17' }],
    [{ session: 's'.repeat(255) }, { session: 's'.repeat(255) }],
  ])('reads %j', (fields, expected) => {
    expect(readStatusReport({ status: 'offline', ...fields }, NOW)).toMatchObject({
      status: 'offline',
      ...expected,
    });
  });

  it.each([
    [{}, 'invalid_payload'],
    [{ status: 'sleeping' }, 'invalid_payload'],
    [{ status: 'inactive' }, 'invalid_payload'],
    [{ status: true }, 'invalid_payload'],
    [{ status: 'online', timestamp: 'now' }, 'invalid_payload'],
    [{ status: 'online', timestamp: '2024-01-23T10:35:01Z' }, 'timestamp_in_future'],
    [{ status: 'online', battery: '85' }, 'invalid_payload'],
    [{ status: 'online', session: {} }, 'invalid_payload'],
    [{ status: 'online', session: 's'.repeat(256) }, 'invalid_payload'],
    [{ status: 'online', battery: -1 }, 'value_out_of_range'],
    [{ status: 'online', battery: 100.1 }, 'value_out_of_range'],
    [{ status: 'online', battery: Infinity }, 'value_out_of_range'],
    [{ status: 'offline', signal_strength: -201 }, 'value_out_of_range'],
    [{ status: 'offline', signal_strength: 201 }, 'value_out_of_range'],
  ])('rejects %j', (payload, reason) => {
    expect(() => readStatusReport(payload, NOW)).toThrow(
      expect.objectContaining<Partial<MessageRejected>>({ reason: reason as MessageRejected['reason'] }),
    );
  });

  it('reads or rejects any object', () => {
    const field = fc.oneof(fc.jsonValue(), fc.constantFrom('online', 'offline'), fc.double());
    const payloads = fc.record(
      { status: field, battery: field, signal_strength: field, session: field },
      { requiredKeys: [] },
    );
    fc.assert(
      fc.property(payloads, (payload) => {
        try {
          const { battery, signalStrength } = readStatusReport(payload, NOW);
          expect(battery === null || (Number.isInteger(battery) && battery >= 0 && battery <= 100)).toBe(
            true,
          );
          expect(signalStrength === null || Math.abs(signalStrength) <= 200).toBe(true);
        } catch (error) {
          if (!(error instanceof MessageRejected)) throw error;
        }
      }),
    );
  });
});

describe('report', () => {
  it('connects a device at its first report, and dates that', () => {
    expect(after(says('online'))).toMatchObject({
      presence: { status: 'online', lastSeen: at(0), connectedSince: at(0) },
      changes: ['connected'],
    });
  });

  it.each<[string, StatusReport[], Presence['status'], unknown[]]>([
    ['online twice', [says('online'), says('online')], 'online', ['connected', null]],
    ['offline', [says('online'), says('offline')], 'offline', ['connected', 'disconnected']],
    [
      'offline twice',
      [says('online'), says('offline'), says('offline')],
      'offline',
      ['connected', 'disconnected', null],
    ],
    ['offline, never seen', [says('offline')], 'offline', [null]],
    ['its own will', [says('online', 'a'), says('offline', 'a')], 'offline', ['connected', 'disconnected']],
    [
      "an older session's late will",
      [says('online', 'a'), says('online', 'b'), says('offline', 'a')],
      'online',
      ['connected', null, null],
    ],
    [
      "the newer session's will after the late one",
      [says('online', 'a'), says('online', 'b'), says('offline', 'a'), says('offline', 'b')],
      'offline',
      ['connected', null, null, 'disconnected'],
    ],
    [
      'a will without a session',
      [says('online', 'a'), says('offline')],
      'offline',
      ['connected', 'disconnected'],
    ],
    [
      'a will with the only session',
      [says('online'), says('offline', 'a')],
      'offline',
      ['connected', 'disconnected'],
    ],
    [
      'a session that comes back',
      [says('online', 'a'), says('offline', 'a'), says('online', 'b'), says('offline', 'a')],
      'online',
      ['connected', 'disconnected', 'connected', null],
    ],
  ])('%s', (_what, reports, status, changes) => {
    const outcome = after(...reports);
    expect(outcome.presence.status).toBe(status);
    expect(outcome.changes).toEqual(changes);
  });

  it('dates the connection anew only for a new session', () => {
    const since = (...reports: StatusReport[]): Date | null => after(...reports).presence.connectedSince;
    expect(since(says('online', 'a'), says('online', 'a'), says('online'))).toEqual(at(0));
    expect(since(says('online', 'a'), says('online', 'b'))).toEqual(at(1));
    expect(since(says('online', 'a'), says('offline', 'a'))).toBeNull();
  });

  it('keeps what a report leaves out, and takes nothing from a late will', () => {
    const { presence } = after(
      { ...says('online', 'a'), battery: 85, signalStrength: -45 },
      { ...says('online', 'b'), battery: 84 },
      { ...says('offline', 'a'), battery: 1 },
    );
    expect(presence).toMatchObject({ battery: 84, signalStrength: -45, lastSeen: at(1), session: 'b' });
  });
});

describe('seen', () => {
  it('connects a silent device', () => {
    expect(seen(NEVER_SEEN, at(0))).toEqual({
      presence: { ...NEVER_SEEN, status: 'online', lastSeen: at(0), connectedSince: at(0) },
      change: 'connected',
    });
    expect(seen(after(says('online'), says('offline')).presence, at(5)).change).toBe('connected');
  });

  it('only moves the last sign of life of one that is online, and never back', () => {
    const online = seen(NEVER_SEEN, at(5)).presence;
    expect(seen(online, at(9))).toEqual({ presence: { ...online, lastSeen: at(9) }, change: null });
    expect(seen(online, at(1))).toEqual({ presence: online, change: null });
  });
});

it('tells of every change once, and dates a connection exactly while there is one', () => {
  const sign = fc.oneof(
    fc.constant('data' as const),
    fc.record({
      status: fc.constantFrom('online' as const, 'offline' as const),
      session: fc.constantFrom(null, 'a', 'b'),
    }),
  );
  fc.assert(
    fc.property(fc.array(sign), (signs) => {
      let presence = NEVER_SEEN;
      signs.forEach((next, second) => {
        const outcome =
          next === 'data'
            ? seen(presence, at(second))
            : report(presence, says(next.status, next.session), at(second));
        const [was, is] = [presence.status === 'online', outcome.presence.status === 'online'];
        expect(outcome.change).toBe(was === is ? null : is ? 'connected' : 'disconnected');
        expect(outcome.presence.connectedSince !== null).toBe(is);
        ({ presence } = outcome);
      });
    }),
  );
});
