import type { MigrationInterface, QueryRunner } from 'typeorm';

/**
 * Which replicas share the messages, and of what time each has heard everything that was dealt to it (by its own clock):
 * without that of all, no device is known to be silent. `alive_at`: when it was last connected, by the database's clock.
 * And each discharge of a battery that is to be told of, where there was room for the last one only.
 */
export class ProvenSilence1764360000000 implements MigrationInterface {
  async up(runner: QueryRunner): Promise<void> {
    await runner.query(`
      ALTER TABLE service_replicas
        ADD COLUMN shared_group TEXT,
        ADD COLUMN alive_at TIMESTAMPTZ,
        ADD COLUMN heard_since TIMESTAMPTZ,
        ADD COLUMN heard_until TIMESTAMPTZ`);
    await runner.query(`
      UPDATE medical_devices
      SET presence_memory = jsonb_set(presence_memory, '{untoldLow}', jsonb_build_array(presence_memory->'lowBattery'))
      WHERE battery_tell_after IS NOT NULL AND jsonb_typeof(presence_memory->'lowBattery') = 'object'`);
  }

  async down(runner: QueryRunner): Promise<void> {
    await runner.query(`
      ALTER TABLE service_replicas
        DROP COLUMN heard_until, DROP COLUMN heard_since, DROP COLUMN alive_at, DROP COLUMN shared_group`);
  }
}
