import type { MigrationInterface, QueryRunner } from 'typeorm';

/** What it takes to look into the quarantine, newest first by device and reason, and to try a message again. */
export class QuarantineLookup1764000000002 implements MigrationInterface {
  async up(runner: QueryRunner): Promise<void> {
    await runner.query(`ALTER TABLE rejected_messages ADD COLUMN retained BOOLEAN NOT NULL DEFAULT FALSE`);
    // Until now only its detail told that a message was retained.
    await runner.query(`UPDATE rejected_messages SET retained = TRUE WHERE detail LIKE 'It was retained %'`);
    await runner.query(
      `CREATE INDEX rejected_messages_device ON rejected_messages (device_id, received_at, id)`,
    );
    await runner.query(
      `CREATE INDEX rejected_messages_reason ON rejected_messages (reason, received_at, id)`,
    );
    await runner.query(
      `CREATE INDEX rejected_messages_device_reason ON rejected_messages (device_id, reason, received_at, id)`,
    );
    // A device that sends nonsense sends one kind of it: taken for independent, the two make the planner expect to find
    // both soon, and walk through everything.
    await runner.query(
      `CREATE STATISTICS rejected_messages_which (mcv) ON device_id, reason FROM rejected_messages`,
    );
  }

  async down(runner: QueryRunner): Promise<void> {
    await runner.query(`DROP STATISTICS rejected_messages_which`);
    for (const index of ['device_reason', 'reason', 'device']) {
      await runner.query(`DROP INDEX rejected_messages_${index}`);
    }
    await runner.query(`ALTER TABLE rejected_messages DROP COLUMN retained`);
  }
}
