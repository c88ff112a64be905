import type { MigrationInterface, QueryRunner } from 'typeorm';

/** Finds what is untold of a device, however long its history is: its changes are told in their order. */
export class UntoldChanges1764430000000 implements MigrationInterface {
  async up(runner: QueryRunner): Promise<void> {
    await runner.query(`
      CREATE INDEX device_status_changes_untold_of_device ON device_status_changes (device_id, id)
        WHERE tell_after IS NOT NULL`);
  }

  async down(runner: QueryRunner): Promise<void> {
    await runner.query(`DROP INDEX device_status_changes_untold_of_device`);
  }
}
