import type { MigrationInterface, QueryRunner } from 'typeorm';

/**
 * What the live stream tells again to those who missed it. A row is a batch of messages as they came in, or one event of
 * another kind. `epoch` is a run of the service, which counts its messages (`place`) and its other events (`other`): the
 * order they are told in, which that of commits is not.
 */
export class StreamLog1764370000000 implements MigrationInterface {
  async up(runner: QueryRunner): Promise<void> {
    await runner.query(`
      CREATE TABLE stream_epochs (
        epoch        SERIAL PRIMARY KEY,
        started_at   TIMESTAMPTZ NOT NULL DEFAULT CURRENT_TIMESTAMP,
        pruned_place BIGINT NOT NULL DEFAULT 0,
        pruned_other BIGINT NOT NULL DEFAULT 0
      )`);
    await runner.query(`
      CREATE TABLE stream_log (
        place BIGINT NOT NULL,
        other BIGINT NOT NULL,
        at    TIMESTAMPTZ NOT NULL DEFAULT CURRENT_TIMESTAMP,
        epoch INTEGER NOT NULL,
        body  BYTEA NOT NULL,
        PRIMARY KEY (epoch, place, other)
      )`);
    await runner.query(`ALTER TABLE stream_log ALTER COLUMN body SET STORAGE EXTERNAL`);
    await runner.query(`CREATE INDEX stream_log_at ON stream_log (at)`);
  }

  async down(runner: QueryRunner): Promise<void> {
    await runner.query(`DROP TABLE stream_log`);
    await runner.query(`DROP TABLE stream_epochs`);
  }
}
