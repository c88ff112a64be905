import type { MigrationInterface, QueryRunner } from 'typeorm';

/**
 * The history of devices' connections, what tells late status messages from new ones (`presence_memory`), and when a
 * device last sent data. `tell_after`: if nobody has told of it by then, somebody else does; null: it has been told of.
 */
export class StatusHistory1764310000000 implements MigrationInterface {
  async up(runner: QueryRunner): Promise<void> {
    await runner.query(`
      CREATE TABLE device_status_changes (
        id              BIGSERIAL PRIMARY KEY,
        device_id       VARCHAR(255) NOT NULL REFERENCES medical_devices (device_id) ON DELETE CASCADE,
        tenant          VARCHAR(100) NOT NULL,
        patient_id      INTEGER NOT NULL,
        status          VARCHAR(50) NOT NULL CHECK (status IN ('online', 'offline')),
        cause           VARCHAR(50) NOT NULL,
        at              TIMESTAMPTZ NOT NULL,
        session         VARCHAR(255),
        battery         SMALLINT,
        signal_strength SMALLINT,
        last_seen       TIMESTAMPTZ,
        tell_after      TIMESTAMPTZ
      )`);
    await runner.query(`CREATE INDEX device_status_changes_device ON device_status_changes (device_id, id)`);
    await runner.query(
      `CREATE INDEX device_status_changes_untold ON device_status_changes (tell_after) WHERE tell_after IS NOT NULL`,
    );
    await runner.query(`
      ALTER TABLE medical_devices
        ADD COLUMN last_data_at TIMESTAMPTZ,
        ADD COLUMN presence_memory JSONB,
        ADD COLUMN battery_tell_after TIMESTAMPTZ`);
    await runner.query(
      `CREATE INDEX medical_devices_battery_untold ON medical_devices (battery_tell_after)
       WHERE battery_tell_after IS NOT NULL`,
    );
  }

  async down(runner: QueryRunner): Promise<void> {
    await runner.query(`
      ALTER TABLE medical_devices
        DROP COLUMN battery_tell_after, DROP COLUMN presence_memory, DROP COLUMN last_data_at`);
    await runner.query(`DROP TABLE device_status_changes`);
  }
}
