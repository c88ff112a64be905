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
  }

  async down(runner: QueryRunner): Promise<void> {
    for (const index of ['device_reason', 'reason', 'device']) {
      await runner.query(`DROP INDEX rejected_messages_${index}`);
    }
    await runner.query(`ALTER TABLE rejected_messages DROP COLUMN retained`);
  }
}
