import type { Database } from '#platform';
import type { DeviceIdentity, DeviceType } from '../domain/device.js';

/** Entries remembered at most; some 200 bytes each. */
const MAX_ENTRIES = 100_000;

interface IdentityRecord {
  readonly version: string;
  readonly device_id: string | null;
  readonly tenant: string;
  readonly patient_id: number;
  readonly patient_since: Date | null;
  readonly type: DeviceType;
  readonly decommissioned_at: Date | null;
}

// One statement, so one snapshot: the version is that of the devices found. Without any, it still says the version.
const LOAD = `
  SELECT version, device_id, tenant, patient_id, patient_since, type, decommissioned_at
  FROM device_registry_version LEFT JOIN (
    unnest($1::text[]) AS asked (device_id) JOIN medical_devices USING (device_id)
  ) ON true`;

/**
 * Which devices there are and whose, remembered between batches of messages, and never out of date: a trigger counts
 * every change of the registry in `device_registry_version`, and one look at that tells whether what is remembered still
 * holds: one row read by its key, however many devices a batch names.
 */
export class DeviceDirectory {
  private version: string | undefined;
  /** Null: not registered. */
  private readonly known = new Map<string, DeviceIdentity | null>();

  constructor(private readonly database: Database) {}

  /**
   * Those of the given ids that are registered, by id, as of a moment after the call.
   * @throws what the database says.
   */
  async identify(deviceIds: readonly string[]): Promise<ReadonlyMap<string, DeviceIdentity>> {
    const ids = new Set(deviceIds);
    for (;;) {
      const missing = [...ids].filter((id) => !this.known.has(id));
      if (missing.length > 0) await this.load(missing);
      else await this.check();
      // Another batch may have forgotten everything meanwhile.
      const found = this.collect(ids);
      if (found) return found;
    }
  }

  private async check(): Promise<void> {
    const { rows } = await this.database.ingest.query<{ version: string }>({
      name: 'device-registry-version',
      text: 'SELECT version FROM device_registry_version',
    });
    this.keepOnly(rows[0]?.version);
  }

  private async load(deviceIds: readonly string[]): Promise<void> {
    const { rows } = await this.database.ingest.query<IdentityRecord>({
      name: 'devices-identify',
      text: LOAD,
      values: [deviceIds],
    });
    this.keepOnly(rows[0]?.version);
    if (this.known.size > MAX_ENTRIES) this.known.clear();
    for (const id of deviceIds) this.known.set(id, null);
    for (const row of rows) {
      if (row.device_id === null) continue;
      this.known.set(row.device_id, {
        deviceId: row.device_id,
        tenant: row.tenant,
        patientId: row.patient_id,
        patientSince: row.patient_since,
        type: row.type,
        decommissionedAt: row.decommissioned_at,
      });
    }
  }

  private keepOnly(version: string | undefined): void {
    if (version !== this.version || version === undefined) this.known.clear();
    this.version = version;
  }

  /** Null when one of them is not remembered. */
  private collect(ids: ReadonlySet<string>): ReadonlyMap<string, DeviceIdentity> | null {
    const found = new Map<string, DeviceIdentity>();
    for (const id of ids) {
      const device = this.known.get(id);
      if (device === undefined) return null;
      if (device) found.set(id, device);
    }
    return found;
  }
}
