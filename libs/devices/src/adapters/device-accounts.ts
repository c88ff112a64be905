import { createHash, randomBytes } from 'node:crypto';
import { DomainError } from '#kernel';
import { sameText, type Database } from '#platform';
import { isDeviceId } from '../domain/device.js';
import type { DeviceCredentials } from '../ports/broker-access.js';

const PASSWORD_BYTES = 32;

/** 256 random bits. */
export function newPassword(): string {
  return randomBytes(PASSWORD_BYTES).toString('base64url');
}

export function brokerUnavailable(detail: string): DomainError {
  return new DomainError('unavailable', 'broker_unavailable', detail);
}

/** Accounts that the service itself checks, kept as salted hashes in `device_credentials`. */
export class DeviceAccounts {
  constructor(private readonly database: Database) {}

  /** Makes an account, or gives it a new password. */
  async issue(deviceId: string): Promise<DeviceCredentials> {
    const password = newPassword();
    await this.database.query(
      `INSERT INTO device_credentials (device_id, username, password_hash) VALUES ($1, $1, $2)
       ON CONFLICT (device_id) DO UPDATE SET password_hash = excluded.password_hash, created_at = CURRENT_TIMESTAMP`,
      [deviceId, hash(password, randomBytes(16))],
    );
    return { username: deviceId, password, clientId: deviceId };
  }

  async revoke(deviceId: string): Promise<void> {
    await this.database.query('DELETE FROM device_credentials WHERE device_id = $1', [deviceId]);
  }

  /** Whether a device has an account and is in service. */
  async has(username: string): Promise<boolean> {
    return (await this.hashOf(username)) !== null;
  }

  /** The account is bound to its client id, so that one device can't push another off the broker. */
  async check(clientId: string, username: string, password: string): Promise<boolean> {
    if (clientId !== username) return false;
    const expected = await this.hashOf(username);
    if (expected === null) return false;
    const [salt = ''] = expected.split('$');
    return sameText(hash(password, Buffer.from(salt, 'base64url')), expected);
  }

  private async hashOf(username: string): Promise<string | null> {
    if (!isDeviceId(username)) return null;
    const [row] = await this.database.query<{ password_hash: string }>(
      `SELECT c.password_hash FROM device_credentials c JOIN medical_devices d USING (device_id)
       WHERE c.username = $1 AND d.decommissioned_at IS NULL`,
      [username],
    );
    return row?.password_hash ?? null;
  }
}

/** One round suffices: the password has 256 random bits, so there is nothing to guess slowly. */
function hash(password: string, salt: Buffer): string {
  const digest = createHash('sha256').update(salt).update(password).digest('base64url');
  return `${salt.toString('base64url')}$${digest}`;
}
