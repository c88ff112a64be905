import type { MigrationInterface, QueryRunner } from 'typeorm';

/**
 * Whose a device was before, so that a look at what it measured then is recorded under them, too. Of devices that went to
 * another patient before this was kept, the audit log's entry of that change says whose they had been.
 */
export class FormerPatients1764340000000 implements MigrationInterface {
  async up(runner: QueryRunner): Promise<void> {
    await runner.query(`
      CREATE TABLE former_patients (
        device_id  VARCHAR(255) NOT NULL,
        patient_id INTEGER NOT NULL,
        since      TIMESTAMPTZ NOT NULL,
        until      TIMESTAMPTZ NOT NULL
      )`);
    await runner.query(`CREATE INDEX former_patients_device ON former_patients (device_id, until)`);
    await runner.query(`
      CREATE FUNCTION keep_former_patient() RETURNS trigger LANGUAGE plpgsql AS $$
      BEGIN
        INSERT INTO former_patients (device_id, patient_id, since, until)
        VALUES (old.device_id, old.patient_id, coalesce(old.patient_since, '-infinity'),
                coalesce(new.patient_since, statement_timestamp()));
        RETURN NULL;
      END $$`);
    await runner.query(`
      CREATE TRIGGER former_patient AFTER UPDATE OF patient_id ON medical_devices
      FOR EACH ROW WHEN (old.patient_id <> new.patient_id) EXECUTE FUNCTION keep_former_patient()`);
    await runner.query(APPEND);
  }

  async down(runner: QueryRunner): Promise<void> {
    await runner.query(APPEND_BEFORE);
    await runner.query(`DROP TRIGGER former_patient ON medical_devices`);
    await runner.query(`DROP FUNCTION keep_former_patient`);
    await runner.query(`DROP TABLE former_patients`);
  }
}

// An entry that says of which time the data were gets one more for each former patient who had the device in that time.
const APPEND = `
  CREATE OR REPLACE FUNCTION audit_append(entries jsonb) RETURNS void LANGUAGE plpgsql AS $$
  DECLARE
    head     audit_head;
    fresh    audit_log;
    entry    jsonb;
    patients integer[];
  BEGIN
    SELECT * INTO STRICT head FROM audit_head FOR UPDATE;
    FOR entry IN SELECT value FROM jsonb_array_elements(entries) WITH ORDINALITY AS e (value, place) ORDER BY place
    LOOP
      fresh := jsonb_populate_record(NULL::audit_log, entry);
      IF fresh.patient_id IS NULL AND fresh.device_id IS NOT NULL THEN
        -- Another tenant's device has no patient here, as it has no existence.
        SELECT patient_id INTO fresh.patient_id FROM medical_devices
        WHERE device_id = fresh.device_id AND tenant = coalesce(fresh.tenant, 'default');
      END IF;
      patients := ARRAY[fresh.patient_id];
      IF entry ? 'shown_from' AND fresh.patient_id IS NOT NULL THEN
        patients := patients || ARRAY(
          SELECT DISTINCT patient_id FROM former_patients
          WHERE device_id = fresh.device_id AND patient_id <> fresh.patient_id
            AND until > (entry ->> 'shown_from')::timestamptz AND since <= (entry ->> 'shown_to')::timestamptz
          ORDER BY patient_id);
      END IF;
      FOREACH fresh.patient_id IN ARRAY patients
      LOOP
        head.id := head.id + 1;
        fresh.id := head.id;
        head.hash := audit_digest(head.hash, fresh);
        fresh.hash := head.hash;
        INSERT INTO audit_log SELECT fresh.*;
      END LOOP;
    END LOOP;
    UPDATE audit_head SET id = head.id, hash = head.hash;
  END $$`;

const APPEND_BEFORE = `
  CREATE OR REPLACE FUNCTION audit_append(entries jsonb) RETURNS void LANGUAGE plpgsql AS $$
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
  END $$`;
