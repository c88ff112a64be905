import type { MigrationInterface, QueryRunner } from 'typeorm';

/**
 * `command_news`: statuses that commands have entered and that are still to be told of. `tell_after`: if nobody has told
 * of it by then, somebody else does; what has been told of is removed.
 *
 * `command_enter`: enters an order into the ledger and, where it is the next of its device, takes it up in the same
 * transaction, so that there is one round trip and one commit between an order and its publication. Each statement of
 * the function sees what was committed before it, and not, as those of one SQL statement, what was before the lock of the
 * device's queue was waited for.
 */
export class CommandNews1764350000000 implements MigrationInterface {
  async up(runner: QueryRunner): Promise<void> {
    await runner.query(`
      CREATE TABLE command_news (
        id         BIGSERIAL PRIMARY KEY,
        command_id UUID NOT NULL,
        status     VARCHAR(20) NOT NULL,
        at         TIMESTAMPTZ NOT NULL,
        tell_after TIMESTAMPTZ NOT NULL
      )`);
    await runner.query(`CREATE INDEX command_news_untold ON command_news (tell_after)`);
    await runner.query(`CREATE INDEX command_news_command ON command_news (command_id)`);

    await runner.query(`
      CREATE FUNCTION command_enter(
        queue_lock integer, order_id uuid, device text, command text, parameters jsonb, ordered_by text,
        ordered_at timestamptz, expiry timestamptz, order_key text, order_digest text,
        claim uuid, lease interval, max_in_flight integer, tell_within interval
      ) RETURNS TABLE (entered_id bigint, taken_until timestamptz, news_id bigint) LANGUAGE plpgsql AS $$
      BEGIN
        -- Ids are given out in the order in which commands of a device become visible: otherwise one could be sent before
        -- another of a smaller id, which is still being committed.
        PERFORM pg_advisory_xact_lock(queue_lock, hashtext(device));
        IF claim IS NOT NULL AND NOT EXISTS (
          SELECT FROM device_commands c WHERE c.device_id = device AND c.status = 'queued'
        ) AND (
          SELECT count(*) FROM device_commands c WHERE c.device_id = device AND c.status = 'sent'
        ) < max_in_flight AND EXISTS (
          SELECT FROM medical_devices d WHERE d.device_id = device AND d.status = 'online'
            AND d.decommissioned_at IS NULL AND ordered_at >= coalesce(d.patient_since, '-infinity')
        ) THEN
          taken_until := clock_timestamp() + lease;
        END IF;
        INSERT INTO device_commands AS c
          (command_id, device_id, command, parameters, status, created_by, created_at, expires_at, idempotency_key,
           request_digest, claimed_by, claimed_until, attempts)
        VALUES
          (order_id, device, command_enter.command, command_enter.parameters, 'queued', ordered_by, ordered_at, expiry,
           order_key, order_digest, CASE WHEN taken_until IS NOT NULL THEN claim END, taken_until,
           CASE WHEN taken_until IS NULL THEN 0 ELSE 1 END)
        ON CONFLICT (device_id, created_by, idempotency_key) WHERE idempotency_key IS NOT NULL DO NOTHING
        RETURNING c.id INTO entered_id;
        IF entered_id IS NULL THEN
          RETURN;
        END IF;
        INSERT INTO command_news (command_id, status, at, tell_after)
        VALUES (order_id, 'queued', ordered_at, clock_timestamp() + tell_within)
        RETURNING id INTO news_id;
        RETURN NEXT;
      END $$`);
  }

  async down(runner: QueryRunner): Promise<void> {
    await runner.query(`DROP FUNCTION command_enter`);
    await runner.query(`DROP TABLE command_news`);
  }
}
