import type { MigrationInterface, QueryRunner } from 'typeorm';

/**
 * The seed's two tables under their own names and columns (ids widened to BIGINT, timestamps with time zone),
 * and what the contract adds.
 */
export class InitialSchema1764000000000 implements MigrationInterface {
  async up(runner: QueryRunner): Promise<void> {
    await runner.query(`
      CREATE TABLE medical_devices (
        id               BIGSERIAL PRIMARY KEY,
        device_id        VARCHAR(255) UNIQUE NOT NULL,
        patient_id       INTEGER NOT NULL CHECK (patient_id > 0),
        type             VARCHAR(100) NOT NULL,
        model            VARCHAR(100),
        serial_number    VARCHAR(100),
        status           VARCHAR(50) NOT NULL DEFAULT 'inactive'
                         CHECK (status IN ('inactive', 'online', 'offline')),
        last_seen        TIMESTAMPTZ,
        created_at       TIMESTAMPTZ NOT NULL DEFAULT CURRENT_TIMESTAMP,
        battery          SMALLINT,
        signal_strength  SMALLINT,
        connected_since  TIMESTAMPTZ,
        session          VARCHAR(255),
        decommissioned_at TIMESTAMPTZ
      )`);
    await runner.query(`CREATE INDEX medical_devices_patient ON medical_devices (patient_id, id)`);
    await runner.query(
      `CREATE INDEX medical_devices_online ON medical_devices (last_seen) WHERE status = 'online'`,
    );

    await runner.query(`
      CREATE TABLE device_credentials (
        device_id     VARCHAR(255) PRIMARY KEY REFERENCES medical_devices (device_id),
        username      VARCHAR(255) UNIQUE NOT NULL,
        password_hash VARCHAR(255) NOT NULL,
        created_at    TIMESTAMPTZ NOT NULL DEFAULT CURRENT_TIMESTAMP
      )`);

    // The unique key absorbs a redelivered message and keeps two different values of one instant.
    // Its column order also answers "a device's readings over a time", so it is the table's only index.
    await runner.query(`
      CREATE TABLE device_readings (
        id          BIGSERIAL NOT NULL,
        device_id   VARCHAR(255) NOT NULL,
        metric_type VARCHAR(100) NOT NULL,
        value       DECIMAL(10,2) NOT NULL CHECK (value <> 'NaN'),
        unit        VARCHAR(50),
        timestamp   TIMESTAMPTZ NOT NULL DEFAULT CURRENT_TIMESTAMP,
        metadata    JSONB NOT NULL DEFAULT '{}',
        received_at TIMESTAMPTZ NOT NULL DEFAULT CURRENT_TIMESTAMP,
        CONSTRAINT device_readings_once UNIQUE (device_id, timestamp, metric_type, value)
      ) PARTITION BY RANGE (timestamp)`);
    // Stray dates, such as those of a device whose clock was never set, are kept too.
    await runner.query(`CREATE TABLE device_readings_default PARTITION OF device_readings DEFAULT`);

    await runner.query(`
      CREATE TABLE device_waveforms (
        id             BIGSERIAL PRIMARY KEY,
        device_id      VARCHAR(255) NOT NULL,
        lead           VARCHAR(20) NOT NULL,
        sampling_rate  DOUBLE PRECISION NOT NULL,
        unit           VARCHAR(50) NOT NULL,
        samples        DOUBLE PRECISION[] NOT NULL,
        samples_digest BYTEA NOT NULL,
        timestamp      TIMESTAMPTZ NOT NULL,
        metadata       JSONB NOT NULL DEFAULT '{}',
        received_at    TIMESTAMPTZ NOT NULL DEFAULT CURRENT_TIMESTAMP,
        CONSTRAINT device_waveforms_once UNIQUE (device_id, timestamp, lead, samples_digest)
      )`);

    await runner.query(`
      CREATE TABLE rejected_messages (
        id          BIGSERIAL PRIMARY KEY,
        message_id  VARCHAR(64) UNIQUE NOT NULL,
        topic       TEXT NOT NULL,
        payload     BYTEA NOT NULL,
        reason      VARCHAR(50) NOT NULL,
        detail      TEXT NOT NULL,
        device_id   VARCHAR(255),
        received_at TIMESTAMPTZ NOT NULL
      )`);
    await runner.query(`CREATE INDEX rejected_messages_received ON rejected_messages (received_at, id)`);

    // A message without a timestamp of its own is dated by its receipt. When the broker delivers it again
    // (after a crash between commit and PUBACK), this finds the date it was given the first time.
    await runner.query(`
      CREATE TABLE mqtt_receipts (
        client_id   VARCHAR(255) NOT NULL,
        packet_id   INTEGER NOT NULL,
        digest      BYTEA NOT NULL,
        received_at TIMESTAMPTZ NOT NULL,
        PRIMARY KEY (client_id, packet_id)
      )`);

    await runner.query(`
      CREATE TABLE device_commands (
        id              BIGSERIAL PRIMARY KEY,
        command_id      UUID UNIQUE NOT NULL,
        device_id       VARCHAR(255) NOT NULL REFERENCES medical_devices (device_id),
        command         VARCHAR(100) NOT NULL,
        parameters      JSONB NOT NULL DEFAULT '{}',
        status          VARCHAR(20) NOT NULL CHECK (status IN
                        ('queued', 'sent', 'acknowledged', 'completed', 'failed', 'expired', 'cancelled')),
        created_by      VARCHAR(255) NOT NULL,
        created_at      TIMESTAMPTZ NOT NULL DEFAULT CURRENT_TIMESTAMP,
        sent_at         TIMESTAMPTZ,
        acknowledged_at TIMESTAMPTZ,
        completed_at    TIMESTAMPTZ,
        expires_at      TIMESTAMPTZ NOT NULL,
        result          JSONB,
        error           TEXT,
        attempts        INTEGER NOT NULL DEFAULT 0
      )`);
    await runner.query(`CREATE INDEX device_commands_device ON device_commands (device_id, id)`);
    await runner.query(
      `CREATE INDEX device_commands_open ON device_commands (expires_at)
       WHERE status IN ('queued', 'sent', 'acknowledged')`,
    );
  }

  async down(runner: QueryRunner): Promise<void> {
    for (const table of [
      'device_commands',
      'mqtt_receipts',
      'rejected_messages',
      'device_waveforms',
      'device_readings',
      'device_credentials',
      'medical_devices',
    ]) {
      await runner.query(`DROP TABLE ${table}`);
    }
  }
}
