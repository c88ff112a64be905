import type { MigrationInterface, QueryRunner } from 'typeorm';

/**
 * Events that wait for the system of `EVENTS_URL`, as they will go out, in their order. How many they are, and how large,
 * is kept in a row: to count them would take the longer the more there are. Whoever appends has that row locked until the
 * commit, so that ids are given out in the order in which they are committed.
 */
export class EventsOutbox1764380000000 implements MigrationInterface {
  async up(runner: QueryRunner): Promise<void> {
    await runner.query(`
      CREATE TABLE events_outbox (
        id            BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
        waiting_since TIMESTAMPTZ NOT NULL DEFAULT clock_timestamp(),
        bytes         INTEGER NOT NULL,
        type          TEXT NOT NULL,
        device_id     TEXT,
        event         TEXT NOT NULL
      )`);
    await runner.query(`
      CREATE TABLE events_outbox_size (
        one   BOOLEAN PRIMARY KEY DEFAULT true CHECK (one),
        rows  BIGINT NOT NULL DEFAULT 0,
        bytes BIGINT NOT NULL DEFAULT 0
      )`);
    await runner.query(`INSERT INTO events_outbox_size DEFAULT VALUES`);
  }

  async down(runner: QueryRunner): Promise<void> {
    await runner.query(`DROP TABLE events_outbox_size`);
    await runner.query(`DROP TABLE events_outbox`);
  }
}
