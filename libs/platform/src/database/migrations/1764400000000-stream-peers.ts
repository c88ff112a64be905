import type { MigrationInterface, QueryRunner } from 'typeorm';

/**
 * Replicas tell each other's events from the log: up to where the one that wrote them says that it has told them, and to
 * the end once it is dead (`ended`). Up to `kept_place` another relies on what it has logged.
 */
export class StreamPeers1764400000000 implements MigrationInterface {
  async up(runner: QueryRunner): Promise<void> {
    await runner.query(`
      ALTER TABLE stream_epochs
        ADD told_place BIGINT,
        ADD told_index INTEGER,
        ADD told_other BIGINT,
        ADD kept_place BIGINT NOT NULL DEFAULT 0,
        ADD ended BOOLEAN NOT NULL DEFAULT false`);
    await runner.query(`CREATE INDEX stream_epochs_alive ON stream_epochs (epoch) WHERE NOT ended`);
  }

  async down(runner: QueryRunner): Promise<void> {
    await runner.query(`DROP INDEX stream_epochs_alive`);
    await runner.query(`
      ALTER TABLE stream_epochs DROP told_place, DROP told_index, DROP told_other, DROP kept_place, DROP ended`);
  }
}
