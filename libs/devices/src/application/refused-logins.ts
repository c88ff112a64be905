import { Injectable } from '@nestjs/common';
import { AuditTrail, Clock, type AuditEntry } from '#kernel';
import { isDeviceId } from '../domain/device.js';

const WINDOW_MS = 60_000;
/** What stands in the audit log stays for ever, so it must not be for whoever guesses passwords to fill it. */
const MAX_IN_WINDOW = 100;

/**
 * Writes down who tried to connect to the broker with a wrong password: of one name and address the first in a minute, of
 * all of them {@link MAX_IN_WINDOW}, and then one entry more that says so.
 */
@Injectable()
export class RefusedLogins {
  private readonly noted = new Set<string>();
  private since = -Infinity;

  constructor(
    private readonly trail: AuditTrail,
    private readonly clock: Clock,
  ) {}

  /** @param source the address it came from; null: the broker does not tell. */
  note(clientId: string, username: string, source: string | null): void {
    const at = this.clock.now();
    const age = at.getTime() - this.since;
    if (age >= WINDOW_MS || age < 0) {
      this.noted.clear();
      this.since = at.getTime();
    }
    const key = JSON.stringify([username, source]);
    if (this.noted.size > MAX_IN_WINDOW || this.noted.has(key)) return;
    this.noted.add(key);
    const isOneTooMany = this.noted.size > MAX_IN_WINDOW;
    const entry: AuditEntry = {
      at,
      actor: null,
      action: 'connectDevice',
      patientId: null,
      deviceId: !isOneTooMany && isDeviceId(username) ? username : null,
      target: isOneTooMany ? null : clientId,
      source: isOneTooMany ? null : source,
      outcome: 'denied',
      detail: isOneTooMany ? 'too_many_bad_credentials' : 'bad_credentials',
      requestId: crypto.randomUUID(),
    };
    this.trail.note(entry);
  }
}
