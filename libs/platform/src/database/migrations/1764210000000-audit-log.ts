import type { MigrationInterface, QueryRunner } from 'typeorm';

/**
 * The audit log: rows are added by `audit_append` and by nothing else, each with a digest over itself and the digest of
 * the row before. `audit_head` says which row is the last, so that one missing at the end is missed; its lock puts the
 * replicas in an order.
 */
export class AuditLog1764210000000 implements MigrationInterface {
  async up(runner: QueryRunner): Promise<void> {
    await runner.query(`
      CREATE TABLE audit_log (
        id         BIGINT PRIMARY KEY,
        at         TIMESTAMPTZ NOT NULL,
        patient_id INTEGER,
        actor      VARCHAR(255),
        role       VARCHAR(255),
        tenant     VARCHAR(100),
        action     VARCHAR(255) NOT NULL,
        device_id  VARCHAR(255),
        target     VARCHAR(255),
        source     VARCHAR(255),
        outcome    VARCHAR(20) NOT NULL CHECK (outcome IN ('begun', 'done', 'refused', 'denied', 'failed')),
        detail     VARCHAR(255),
        request_id VARCHAR(255) NOT NULL,
        hash       BYTEA NOT NULL
      )`);
    await runner.query(`CREATE INDEX audit_log_at ON audit_log (at)`);
    for (const column of ['actor', 'action', 'device_id', 'patient_id']) {
      await runner.query(`CREATE INDEX audit_log_${column} ON audit_log (${column}, id)`);
    }
    await runner.query(`
      CREATE TABLE audit_head (
        is_only BOOLEAN PRIMARY KEY DEFAULT true CHECK (is_only),
        id      BIGINT NOT NULL,
        hash    BYTEA NOT NULL
      ) WITH (fillfactor = 10)`);
    await runner.query(`INSERT INTO audit_head (id, hash) VALUES (0, decode(repeat('00', 32), 'hex'))`);

    // Each field with its length, so that no two rows read the same; '-' is NULL.
    await runner.query(`
      CREATE FUNCTION audit_digest(previous bytea, entry audit_log) RETURNS bytea LANGUAGE sql STABLE AS $$
        SELECT sha256(previous || convert_to(string_agg(
                 coalesce(octet_length(convert_to(field, 'UTF8')) || ':' || field, '-'), ',' ORDER BY place), 'UTF8'))
        FROM unnest(ARRAY[
          entry.id::text, to_char(entry.at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'),
          entry.patient_id::text, entry.actor, entry.role, entry.tenant, entry.action, entry.device_id,
          entry.target, entry.source, entry.outcome, entry.detail, entry.request_id
        ]) WITH ORDINALITY AS fields (field, place)
      $$`);
    // One statement, so one round trip and one transaction, and the lock is held no longer than that takes.
    await runner.query(`
      CREATE FUNCTION audit_append(entries jsonb) RETURNS void LANGUAGE plpgsql AS $$
      DECLARE
        head  audit_head;
        fresh audit_log;
        entry jsonb;
      BEGIN
        SELECT * INTO STRICT head FROM audit_head FOR UPDATE;
        FOR entry IN SELECT value FROM jsonb_array_elements(entries) WITH ORDINALITY AS e (value, place) ORDER BY place
        LOOP
          fresh := jsonb_populate_record(NULL::audit_log, entry);
          head.id := head.id + 1;
          fresh.id := head.id;
          IF fresh.patient_id IS NULL AND fresh.device_id IS NOT NULL THEN
            -- Another tenant's device has no patient here, as it has no existence.
            SELECT patient_id INTO fresh.patient_id FROM medical_devices
            WHERE device_id = fresh.device_id AND tenant = coalesce(fresh.tenant, 'default');
          END IF;
          head.hash := audit_digest(head.hash, fresh);
          fresh.hash := head.hash;
          INSERT INTO audit_log SELECT fresh.*;
        END LOOP;
        UPDATE audit_head SET id = head.id, hash = head.hash;
      END $$`);

    await runner.query(`
      CREATE FUNCTION audit_refuse() RETURNS trigger LANGUAGE plpgsql AS $$
      BEGIN
        RAISE EXCEPTION 'the audit log is added to, and not changed' USING ERRCODE = 'insufficient_privilege';
      END $$`);
    await runner.query(`
      CREATE TRIGGER audit_log_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON audit_log
      FOR EACH STATEMENT EXECUTE FUNCTION audit_refuse()`);
    await runner.query(`
      CREATE TRIGGER audit_head_stays BEFORE INSERT OR DELETE OR TRUNCATE ON audit_head
      FOR EACH STATEMENT EXECUTE FUNCTION audit_refuse()`);
    await runner.query(`
      CREATE TRIGGER audit_head_moves_on BEFORE UPDATE ON audit_head
      FOR EACH ROW WHEN (new.id <= old.id) EXECUTE FUNCTION audit_refuse()`);
  }

  async down(runner: QueryRunner): Promise<void> {
    await runner.query(`DROP FUNCTION audit_append`);
    await runner.query(`DROP FUNCTION audit_digest`);
    await runner.query(`DROP TABLE audit_head`);
    await runner.query(`DROP TABLE audit_log`);
    await runner.query(`DROP FUNCTION audit_refuse`);
  }
}
