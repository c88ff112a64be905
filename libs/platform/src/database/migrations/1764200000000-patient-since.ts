import type { MigrationInterface, QueryRunner } from 'typeorm';

/** Since when a device is its patient's: what it measured before is not for that patient to see. Null: always. */
export class PatientSince1764200000000 implements MigrationInterface {
  async up(runner: QueryRunner): Promise<void> {
    await runner.query(`ALTER TABLE medical_devices ADD COLUMN patient_since TIMESTAMPTZ`);
  }

  async down(runner: QueryRunner): Promise<void> {
    await runner.query(`ALTER TABLE medical_devices DROP COLUMN patient_since`);
  }
}
