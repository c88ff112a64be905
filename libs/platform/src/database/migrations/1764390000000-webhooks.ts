import type { MigrationInterface, QueryRunner } from 'typeorm';

/**
 * Webhooks, and the queue of each. `webhooks_version` counts the changes that matter for sending, so that replicas can remember
 * the active ones; how a webhook does is not among them. `lane`: deliveries of one go out one after the other; the device, or
 * empty. `claimed_until`: whose a delivery is that is being sent.
 */
export class Webhooks1764390000000 implements MigrationInterface {
  async up(runner: QueryRunner): Promise<void> {
    await runner.query(`
      CREATE TABLE webhooks (
        webhook_id          UUID PRIMARY KEY,
        place               BIGSERIAL NOT NULL UNIQUE,
        tenant              VARCHAR(100) NOT NULL,
        url                 TEXT NOT NULL,
        secret              BYTEA NOT NULL,
        events              TEXT[],
        device_ids          TEXT[],
        patient_ids         INTEGER[],
        metric_types        TEXT[],
        active              BOOLEAN NOT NULL,
        disabled_reason     VARCHAR(50),
        created_by          VARCHAR NOT NULL,
        created_at          TIMESTAMPTZ NOT NULL,
        updated_at          TIMESTAMPTZ NOT NULL,
        last_success_at     TIMESTAMPTZ,
        last_failure_at     TIMESTAMPTZ,
        last_failure_status INTEGER,
        last_failure_code   VARCHAR(50)
      )`);
    await runner.query(`CREATE INDEX webhooks_tenant ON webhooks (tenant, place)`);
    await runner.query(`
      CREATE TABLE webhooks_version (
        is_only BOOLEAN PRIMARY KEY DEFAULT true CHECK (is_only),
        version BIGINT NOT NULL
      ) WITH (fillfactor = 10)`);
    await runner.query(`INSERT INTO webhooks_version (version) VALUES (1)`);
    await runner.query(`
      CREATE FUNCTION count_webhooks_change() RETURNS trigger LANGUAGE plpgsql AS $$
      BEGIN
        UPDATE webhooks_version SET version = version + 1;
        RETURN NULL;
      END $$`);
    await runner.query(`
      CREATE TRIGGER webhooks_changed
      AFTER INSERT OR DELETE OR TRUNCATE
        OR UPDATE OF tenant, url, secret, events, device_ids, patient_ids, metric_types, active ON webhooks
      FOR EACH STATEMENT EXECUTE FUNCTION count_webhooks_change()`);
    await runner.query(`
      CREATE TABLE webhook_deliveries (
        id              BIGSERIAL PRIMARY KEY,
        webhook_id      UUID NOT NULL REFERENCES webhooks (webhook_id) ON DELETE CASCADE,
        message_id      UUID NOT NULL DEFAULT gen_random_uuid(),
        lane            VARCHAR(255) NOT NULL,
        event_id        TEXT NOT NULL,
        event_type      VARCHAR(100) NOT NULL,
        body            TEXT NOT NULL,
        state           VARCHAR(20) NOT NULL DEFAULT 'pending' CHECK (state IN ('pending', 'delivered', 'dead')),
        attempts        INTEGER NOT NULL DEFAULT 0,
        created_at      TIMESTAMPTZ NOT NULL DEFAULT CURRENT_TIMESTAMP,
        queued_at       TIMESTAMPTZ NOT NULL DEFAULT CURRENT_TIMESTAMP,
        next_attempt_at TIMESTAMPTZ NOT NULL DEFAULT CURRENT_TIMESTAMP,
        claimed_by      UUID,
        claimed_until   TIMESTAMPTZ,
        finished_at     TIMESTAMPTZ,
        last_status     INTEGER,
        last_failure    VARCHAR(50),
        UNIQUE (webhook_id, event_id)
      )`);
    await runner.query(
      `CREATE INDEX webhook_deliveries_lanes ON webhook_deliveries (webhook_id, lane, id) WHERE state = 'pending'`,
    );
    await runner.query(
      `CREATE INDEX webhook_deliveries_states ON webhook_deliveries (webhook_id, state, id)`,
    );
  }

  async down(runner: QueryRunner): Promise<void> {
    await runner.query(`DROP TABLE webhook_deliveries`);
    await runner.query(`DROP TABLE webhooks`);
    await runner.query(`DROP FUNCTION count_webhooks_change`);
    await runner.query(`DROP TABLE webhooks_version`);
  }
}
