import fc from 'fast-check';
import { MessageRejected } from '#kernel';
import { readStatusReport } from './status-report.js';

const NOW = new Date('2024-01-23T10:30:00Z');

describe('readStatusReport', () => {
  it("reads the seed's payload", () => {
    const payload = { device_id: 'device_123', status: 'online', battery: 85, signal_strength: -45 };
    expect(readStatusReport(payload, NOW)).toEqual({
      status: 'online',
      battery: 85,
      signalStrength: -45,
      session: null,
      dated: null,
      will: false,
      retained: false,
      mayHaveWaited: false,
    });
  });

  it.each([
    [{ battery: 0 }, { battery: 0 }],
    [{ battery: 100 }, { battery: 100 }],
    [{ battery: 84.6 }, { battery: 84 }],
    [{ battery: 19.99 }, { battery: 19 }],
    [{ battery: 99.9 }, { battery: 99 }],
    [
      { battery: null, session: null },
      { battery: null, session: null },
    ],
    [{ signal_strength: -200 }, { signalStrength: -200 }],
    [{ signal_strength: 200 }, { signalStrength: 200 }],
    [{ session: 17 }, { session: '17' }],
    [{ session: 's'.repeat(255) }, { session: 's'.repeat(255) }],
    [{ will: true }, { will: true }],
    [{ will: 'yes' }, { will: false }],
    [{ timestamp: '2024-01-23T10:29:00Z' }, { dated: new Date('2024-01-23T10:29:00Z') }],
    // A clock that is ahead.
    [{ timestamp: '2024-01-23T10:34:00Z' }, { dated: NOW }],
    // One that was never set.
    [{ timestamp: '1970-01-01T00:00:10Z' }, { dated: null }],
    [{ timestamp: '2024-01-23T09:30:00Z' }, { dated: new Date('2024-01-23T09:30:00Z') }],
    [{ timestamp: '2024-01-23T09:29:59Z' }, { dated: null }],
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
