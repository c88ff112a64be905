import type { MigrationInterface, QueryRunner } from 'typeorm';

/**
 * `device_commands.patient_since`: that of the device when the command was ordered, and so which of its patients it was
 * ordered for. Whether that is the present one needs no clock: those of two replicas may be apart.
 */
export class CommandPatient1764410000000 implements MigrationInterface {
  async up(runner: QueryRunner): Promise<void> {
    await runner.query(`ALTER TABLE device_commands ADD COLUMN patient_since TIMESTAMPTZ`);
    await runner.query(`
      UPDATE device_commands c SET patient_since = d.patient_since FROM medical_devices d
      WHERE d.device_id = c.device_id AND c.created_at >= d.patient_since`);
    await runner.query(`DROP FUNCTION command_enter`);
    await runner.query(
      commandEnter({
        parameter: ', for_patient_since timestamptz',
        isForPatient: 'd.patient_since IS NOT DISTINCT FROM for_patient_since',
        column: ', patient_since',
        value: ', for_patient_since',
      }),
    );
  }

  async down(runner: QueryRunner): Promise<void> {
    await runner.query(`DROP FUNCTION command_enter`);
    await runner.query(
      commandEnter({
        parameter: '',
        isForPatient: `ordered_at >= coalesce(d.patient_since, '-infinity')`,
        column: '',
        value: '',
      }),
    );
    await runner.query(`ALTER TABLE device_commands DROP COLUMN patient_since`);
  }
}

interface Differences {
  readonly parameter: string;
  readonly isForPatient: string;
  readonly column: string;
  readonly value: string;
}

function commandEnter({ parameter, isForPatient, column, value }: Differences): string {
  return `
  CREATE FUNCTION command_enter(
    queue_lock integer, order_id uuid, device text, command text, parameters jsonb, ordered_by text,
    ordered_at timestamptz, expiry timestamptz, order_key text, order_digest text,
    claim uuid, lease interval, max_in_flight integer, tell_within interval${parameter}
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
        AND d.decommissioned_at IS NULL AND ${isForPatient}
    ) THEN
      taken_until := clock_timestamp() + lease;
    END IF;
    INSERT INTO device_commands AS c
      (command_id, device_id, command, parameters, status, created_by, created_at, expires_at, idempotency_key,
       request_digest, claimed_by, claimed_until, attempts${column})
    VALUES
      (order_id, device, command_enter.command, command_enter.parameters, 'queued', ordered_by, ordered_at, expiry,
       order_key, order_digest, CASE WHEN taken_until IS NOT NULL THEN claim END, taken_until,
       CASE WHEN taken_until IS NULL THEN 0 ELSE 1 END${value})
    ON CONFLICT (device_id, created_by, idempotency_key) WHERE idempotency_key IS NOT NULL DO NOTHING
    RETURNING c.id INTO entered_id;
    IF entered_id IS NULL THEN
      RETURN;
    END IF;
    INSERT INTO command_news (command_id, status, at, tell_after)
    VALUES (order_id, 'queued', ordered_at, clock_timestamp() + tell_within)
    RETURNING id INTO news_id;
    RETURN NEXT;
  END $$`;
}
