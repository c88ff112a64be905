import { AuditTrail, type AuditEntry, type Clock } from '#kernel';
import { RefusedLogins } from './refused-logins.js';

class Trail extends AuditTrail {
  readonly entries: AuditEntry[] = [];

  record(): Promise<void> {
    return Promise.reject(new Error('nobody waits for these'));
  }

  note(entry: AuditEntry): void {
    this.entries.push(entry);
  }
}

describe('RefusedLogins', () => {
  let now: Date;
  let trail: Trail;
  let logins: RefusedLogins;

  beforeEach(() => {
    now = new Date('2024-01-23T10:30:00Z');
    trail = new Trail();
    const clock: Clock = { now: () => now };
    logins = new RefusedLogins(trail, clock);
  });

  it('says who it was to be, and from where', () => {
    logins.note('client_1', 'device_1', '192.0.2.7');
    expect(trail.entries).toEqual([
      {
        at: now,
        actor: null,
        action: 'connectDevice',
        patientId: null,
        deviceId: 'device_1',
        target: 'client_1',
        source: '192.0.2.7',
        outcome: 'denied',
        detail: 'bad_credentials',
        requestId: expect.any(String),
      },
    ]);
  });

  it('names no device that could be none', () => {
    logins.note('client_1', '../device', null);
    expect(trail.entries).toMatchObject([{ deviceId: null, target: 'client_1' }]);
  });

  it('repeats a name and address once a minute', () => {
    const tries = (): void => {
      for (let count = 0; count < 5; count += 1) logins.note('client_1', 'device_1', '192.0.2.7');
    };
    tries();
    logins.note('client_1', 'device_1', '192.0.2.8');
    logins.note('client_1', 'device_2', '192.0.2.7');
    expect(trail.entries).toHaveLength(3);
    now = new Date(now.getTime() + 59_999);
    tries();
    expect(trail.entries).toHaveLength(3);
    now = new Date(now.getTime() + 1);
    tries();
    expect(trail.entries).toHaveLength(4);
    now = new Date('2020-01-01T00:00:00Z');
    tries();
    expect(trail.entries).toHaveLength(5);
  });

  it('stops at 100 in a minute, and says so', () => {
    for (let count = 1; count <= 500; count += 1) logins.note('client', `device_${count}`, null);
    expect(trail.entries).toHaveLength(101);
    expect(trail.entries[99]).toMatchObject({ deviceId: 'device_100', detail: 'bad_credentials' });
    expect(trail.entries[100]).toMatchObject({
      deviceId: null,
      target: null,
      detail: 'too_many_bad_credentials',
    });
    now = new Date(now.getTime() + 60_000);
    logins.note('client', 'device_1', null);
    expect(trail.entries[101]).toMatchObject({ deviceId: 'device_1' });
  });
});
