import type { MigrationInterface, QueryRunner } from 'typeorm';

/**
 * Counts the changes of the device registry that matter for taking messages in, so that replicas can remember it without
 * ever being out of date. Presence does not count. The count is a row, not a sequence: it becomes visible together with
 * the change, and the row's lock puts changes in an order.
 */
export class DeviceRegistryVersion1764000000003 implements MigrationInterface {
  async up(runner: QueryRunner): Promise<void> {
    await runner.query(`
      CREATE TABLE device_registry_version (
        is_only BOOLEAN PRIMARY KEY DEFAULT true CHECK (is_only),
        version BIGINT NOT NULL
      ) WITH (fillfactor = 10)`);
    await runner.query(`INSERT INTO device_registry_version (version) VALUES (1)`);
    await runner.query(`
      CREATE FUNCTION count_device_registry_change() RETURNS trigger LANGUAGE plpgsql AS $$
      BEGIN
        UPDATE device_registry_version SET version = version + 1;
        RETURN NULL;
      END $$`);
    await runner.query(`
      CREATE TRIGGER medical_devices_changed
      AFTER INSERT OR DELETE OR TRUNCATE OR UPDATE OF device_id, patient_id, type, decommissioned_at ON medical_devices
      FOR EACH STATEMENT EXECUTE FUNCTION count_device_registry_change()`);
  }

  async down(runner: QueryRunner): Promise<void> {
    await runner.query(`DROP TRIGGER medical_devices_changed ON medical_devices`);
    await runner.query(`DROP FUNCTION count_device_registry_change`);
    await runner.query(`DROP TABLE device_registry_version`);
  }
}
