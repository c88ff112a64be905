import type { MigrationInterface, QueryRunner } from 'typeorm';

/** The names the replicas of the service have at the broker, which are not for devices. */
export class ServiceReplicas1764330000000 implements MigrationInterface {
  async up(runner: QueryRunner): Promise<void> {
    await runner.query(`
      CREATE TABLE service_replicas (
        client_id  TEXT PRIMARY KEY,
        username   TEXT,
        started_at TIMESTAMPTZ NOT NULL DEFAULT CURRENT_TIMESTAMP
      )`);
  }

  async down(runner: QueryRunner): Promise<void> {
    await runner.query(`DROP TABLE service_replicas`);
  }
}
