import type { MigrationInterface, QueryRunner } from 'typeorm';

/** Claims of the dispatch, idempotency keys, and what devices answer too late. */
export class CommandDispatch1764300000000 implements MigrationInterface {
  async up(runner: QueryRunner): Promise<void> {
    await runner.query(`
      ALTER TABLE device_commands
        ADD COLUMN claimed_by      UUID,
        ADD COLUMN claimed_until   TIMESTAMPTZ,
        ADD COLUMN late_response   VARCHAR(20) CHECK (late_response IN ('acknowledged', 'completed', 'failed')),
        ADD COLUMN idempotency_key VARCHAR(255),
        ADD COLUMN request_digest  CHAR(64)`);
    await runner.query(
      `CREATE UNIQUE INDEX device_commands_idempotency ON device_commands (device_id, created_by, idempotency_key)
       WHERE idempotency_key IS NOT NULL`,
    );
    // The queue of a device, and what it has in flight: small, however long the ledger.
    await runner.query(
      `CREATE INDEX device_commands_queued ON device_commands (device_id, id) WHERE status = 'queued'`,
    );
    await runner.query(
      `CREATE INDEX device_commands_sent ON device_commands (device_id) WHERE status = 'sent'`,
    );
    await runner.query(
      `CREATE INDEX device_commands_claimed ON device_commands (claimed_by) WHERE claimed_by IS NOT NULL`,
    );
  }

  async down(runner: QueryRunner): Promise<void> {
    for (const index of ['idempotency', 'queued', 'sent', 'claimed']) {
      await runner.query(`DROP INDEX device_commands_${index}`);
    }
    await runner.query(`
      ALTER TABLE device_commands
        DROP COLUMN claimed_by, DROP COLUMN claimed_until, DROP COLUMN late_response,
        DROP COLUMN idempotency_key, DROP COLUMN request_digest`);
  }
}
