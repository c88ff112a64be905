import type { MigrationInterface, QueryRunner } from 'typeorm';

/** Whose each device is. Those that are there already are the default tenant's. */
export class Tenants1764205000000 implements MigrationInterface {
  async up(runner: QueryRunner): Promise<void> {
    await runner.query(
      `ALTER TABLE medical_devices ADD COLUMN tenant VARCHAR(100) NOT NULL DEFAULT 'default' CHECK (tenant <> '')`,
    );
    await runner.query(`CREATE INDEX medical_devices_tenant ON medical_devices (tenant, id)`);
    await watch(runner, 'device_id, patient_id, type, decommissioned_at, tenant');
  }

  async down(runner: QueryRunner): Promise<void> {
    await watch(runner, 'device_id, patient_id, type, decommissioned_at');
    await runner.query(`ALTER TABLE medical_devices DROP COLUMN tenant`);
  }
}

/** Makes changes of these columns count as changes of the registry. */
async function watch(runner: QueryRunner, columns: string): Promise<void> {
  await runner.query(`DROP TRIGGER medical_devices_changed ON medical_devices`);
  await runner.query(`
    CREATE TRIGGER medical_devices_changed
    AFTER INSERT OR DELETE OR TRUNCATE OR UPDATE OF ${columns} ON medical_devices
    FOR EACH STATEMENT EXECUTE FUNCTION count_device_registry_change()`);
}
