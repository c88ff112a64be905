import { createHash, randomBytes, timingSafeEqual } from 'node:crypto';
import { Injectable } from '@nestjs/common';
import { Database, EmbeddedBroker } from '#platform';
import { BrokerAccess, type DeviceCredentials } from '../ports/broker-access.js';

const PASSWORD_BYTES = 32;

/** Accounts at the embedded broker, kept as salted hashes in `device_credentials`. */
@Injectable()
export class EmbeddedBrokerAccess extends BrokerAccess {
  constructor(
    private readonly database: Database,
    broker: EmbeddedBroker,
  ) {
    super();
    broker.useAuthenticator((clientId, username, password) => this.check(clientId, username, password));
  }

  async issue(deviceId: string): Promise<DeviceCredentials> {
    const password = randomBytes(PASSWORD_BYTES).toString('base64url');
    await this.database.query(
      `INSERT INTO device_credentials (device_id, username, password_hash) VALUES ($1, $1, $2)
       ON CONFLICT (device_id) DO UPDATE SET password_hash = excluded.password_hash, created_at = CURRENT_TIMESTAMP`,
      [deviceId, hash(password, randomBytes(16))],
    );
    return { username: deviceId, password, clientId: deviceId };
  }

  /** The account is bound to its client id, so that one device can't push another off the broker. */
  private async check(clientId: string, username: string, password: string): Promise<boolean> {
    if (clientId !== username) return false;
    const [row] = await this.database.query<{ password_hash: string }>(
      `SELECT c.password_hash FROM device_credentials c JOIN medical_devices d USING (device_id)
       WHERE c.username = $1 AND d.decommissioned_at IS NULL`,
      [username],
    );
    if (!row) return false;
    const [salt = ''] = row.password_hash.split('$');
    const expected = Buffer.from(row.password_hash);
    const given = Buffer.from(hash(password, Buffer.from(salt, 'base64url')));
    return given.length === expected.length && timingSafeEqual(given, expected);
  }
}

/** The broker is managed elsewhere: registration returns no credentials. */
@Injectable()
export class NoBrokerAccess extends BrokerAccess {
  issue(): Promise<null> {
    return Promise.resolve(null);
  }
}

/** One round suffices: the password has 256 random bits, so there is nothing to guess slowly. */
function hash(password: string, salt: Buffer): string {
  const digest = createHash('sha256').update(salt).update(password).digest('base64url');
  return `${salt.toString('base64url')}$${digest}`;
}
