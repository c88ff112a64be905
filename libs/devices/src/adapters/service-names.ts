import { Injectable, Logger, type OnApplicationBootstrap, type OnApplicationShutdown } from '@nestjs/common';
import { Config, Database, errorCode } from '#platform';
import { SETUP_ACCOUNT } from './dynsec-drift.js';

const TRY_AGAIN_MS = 1_000;

// What a replica calls its further connections begins with its client id and a dash.
const TAKEN = `
  SELECT FROM service_replicas
  WHERE $1 IN (client_id, username) OR starts_with($1, client_id || '-')`;
const NOTE = `
  INSERT INTO service_replicas (client_id, username) VALUES ($1, $2)
  ON CONFLICT (client_id) DO UPDATE SET username = excluded.username, started_at = CURRENT_TIMESTAMP`;
const DEVICES_NAMED_SO = `
  SELECT device_id FROM medical_devices
  WHERE decommissioned_at IS NULL AND (device_id IN ($1, $2) OR starts_with(device_id, $1 || '-'))`;

/**
 * The names that the service's replicas have at the broker. Under one of them a device would be taken for the service, or
 * push it off the broker. Each replica notes its own at its start; they stay, since the sessions at the broker do.
 */
@Injectable()
export class ServiceNames implements OnApplicationBootstrap, OnApplicationShutdown {
  private readonly logger = new Logger('ServiceNames');
  private again: NodeJS.Timeout | undefined;
  private stopped = false;

  constructor(
    private readonly database: Database,
    private readonly config: Config,
  ) {}

  onApplicationBootstrap(): void {
    void this.database.start().then(() => this.note());
  }

  onApplicationShutdown(): void {
    this.stopped = true;
    clearTimeout(this.again);
  }

  /** Whether a name is the service's own. */
  async include(name: string): Promise<boolean> {
    const { clientId, username } = this.config.mqtt;
    if ([clientId, username, SETUP_ACCOUNT].includes(name) || name.startsWith(`${clientId}-`)) return true;
    return (await this.database.query(TAKEN, [name])).length > 0;
  }

  /** Tries until it has succeeded. */
  private async note(): Promise<void> {
    if (this.stopped) return;
    const { clientId, username = null } = this.config.mqtt;
    try {
      await this.database.query(NOTE, [clientId, username]);
      const devices = await this.database.query<{ device_id: string }>(DEVICES_NAMED_SO, [
        clientId,
        username,
      ]);
      for (const { device_id: id } of devices)
        this.logger.warn(`The device ${id} has a name of the service's own at the broker (MQTT_CLIENT_ID)`);
    } catch (error) {
      this.logger.warn(`The client id is not noted (${errorCode(error) ?? String(error)}); trying again`);
      this.again = setTimeout(() => void this.note(), TRY_AGAIN_MS);
    }
  }
}
