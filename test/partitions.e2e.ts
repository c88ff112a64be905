import type { MqttClient } from 'mqtt';
import { Client } from 'pg';
import { DataSource } from 'typeorm';
import { InitialSchema1764000000000 } from '../libs/platform/src/database/migrations/1764000000000-initial-schema.js';
import { CompactReadings1764100000000 } from '../libs/platform/src/database/migrations/1764100000000-compact-readings.js';
import { PatientSince1764200000000 } from '../libs/platform/src/database/migrations/1764200000000-patient-since.js';
import { Tenants1764205000000 } from '../libs/platform/src/database/migrations/1764205000000-tenants.js';
import { AuditLog1764210000000 } from '../libs/platform/src/database/migrations/1764210000000-audit-log.js';
import { CommandDispatch1764300000000 } from '../libs/platform/src/database/migrations/1764300000000-command-dispatch.js';
import { StatusHistory1764310000000 } from '../libs/platform/src/database/migrations/1764310000000-status-history.js';
import { ServiceReplicas1764330000000 } from '../libs/platform/src/database/migrations/1764330000000-service-replicas.js';
import { FormerPatients1764340000000 } from '../libs/platform/src/database/migrations/1764340000000-former-patients.js';
import { CommandNews1764350000000 } from '../libs/platform/src/database/migrations/1764350000000-command-news.js';
import { ProvenSilence1764360000000 } from '../libs/platform/src/database/migrations/1764360000000-proven-silence.js';
import { StreamLog1764370000000 } from '../libs/platform/src/database/migrations/1764370000000-stream-log.js';
import { EventsOutbox1764380000000 } from '../libs/platform/src/database/migrations/1764380000000-events-outbox.js';
import { Webhooks1764390000000 } from '../libs/platform/src/database/migrations/1764390000000-webhooks.js';
import { StreamPeers1764400000000 } from '../libs/platform/src/database/migrations/1764400000000-stream-peers.js';
import { CommandPatient1764410000000 } from '../libs/platform/src/database/migrations/1764410000000-command-patient.js';
import { WebhookTurns1764420000000 } from '../libs/platform/src/database/migrations/1764420000000-webhook-turns.js';
import { UntoldChanges1764430000000 } from '../libs/platform/src/database/migrations/1764430000000-untold-changes.js';
import { createDatabase, type TestDatabase } from './support/database.js';
import { installedPostgresVersions, PostgresServer } from './support/postgres-server.js';
import { Service } from './support/service.js';
import { until } from './support/until.js';

/** What has come since readings were made compact, and is undone before that can be. */
const LATER = [
  PatientSince1764200000000,
  Tenants1764205000000,
  AuditLog1764210000000,
  CommandDispatch1764300000000,
  StatusHistory1764310000000,
  ServiceReplicas1764330000000,
  FormerPatients1764340000000,
  CommandNews1764350000000,
  ProvenSilence1764360000000,
  StreamLog1764370000000,
  EventsOutbox1764380000000,
  Webhooks1764390000000,
  StreamPeers1764400000000,
  CommandPatient1764410000000,
  WebhookTurns1764420000000,
  UntoldChanges1764430000000,
];

const EMBEDDED = 'of the embedded version';
const DAY_MS = 86_400_000;

const monthOf = (date: Date): string => `device_readings_${date.toISOString().slice(0, 7).replace('-', '_')}`;
/** The first moment of this month (UTC) or of one before or after it. */
const month = (offset: number): Date => {
  const now = new Date();
  return new Date(Date.UTC(now.getUTCFullYear(), now.getUTCMonth() + offset, 1));
};
const AHEAD = [-1, 0, 1, 2].map((offset) => monthOf(month(offset)));

describe.each([EMBEDDED, ...installedPostgresVersions()])('readings in PostgreSQL %s', (version) => {
  let server: PostgresServer | null = null;
  let database: TestDatabase;
  let service: Service;
  let device: MqttClient;
  let sent = 0;

  const create = (): Promise<TestDatabase> => (server ? createDatabase(server.url) : createDatabase());

  beforeAll(async () => {
    if (version !== EMBEDDED) server = await PostgresServer.start(version);
    database = await create();
    // Batches of one: in a larger one, a message that was refused for no fault of its own gets a second chance.
    service = await Service.start({ DATABASE_URL: database.url, INGEST_BATCH_SIZE: '1' });
    await service.register('scale_1', 'weight_scale');
    device = await service.mqtt();
    await untilMade(database);
  });
  afterAll(async () => {
    await device.endAsync();
    await service.remove();
    await database.drop();
    await server?.remove();
  });

  const partitions = async (of: TestDatabase): Promise<string[]> => {
    const rows = await of.query<{ name: string }>(
      `SELECT relname AS name FROM pg_inherits JOIN pg_class ON pg_class.oid = inhrelid
       WHERE inhparent = 'device_readings'::regclass ORDER BY relname`,
    );
    return rows.map(({ name }) => name);
  };
  const untilMade = (of: TestDatabase): Promise<unknown> =>
    until('the partitions', async () => {
      const present = await partitions(of);
      return AHEAD.every((name) => present.includes(name));
    });
  /** Rows by partition, of one device or all. */
  const rowsBy = async (of: TestDatabase, deviceId: string): Promise<Record<string, number>> => {
    const rows = await of.query<{ name: string; count: number }>(
      `SELECT tableoid::regclass::text AS name, count(*)::int AS count FROM device_readings
       WHERE device_id = $1 GROUP BY 1`,
      [deviceId],
    );
    return Object.fromEntries(rows.map(({ name, count }) => [name, count]));
  };
  const say = (timestamp: Date): Promise<unknown> =>
    device.publishAsync(
      'devices/scale_1/data',
      JSON.stringify({ metric_type: 'weight', value: 70, timestamp: timestamp.toISOString() }),
      { qos: 1 },
    );
  const history = async (query = ''): Promise<string[]> => {
    const { body } = await service.read(`/devices/scale_1/data${query}`);
    return (body.data as { timestamp: string }[]).map(({ timestamp }) => timestamp);
  };
  /** Publishes readings of this month, each of an instant of its own, until told to stop. */
  const keepPublishing = (): { stop: () => Promise<void> } => {
    let going = true;
    const publishing = (async () => {
      while (going) {
        const burst = Array.from({ length: 20 }, () => say(new Date(month(0).getTime() + (sent += 1))));
        await Promise.all(burst);
        await until('most of them', async () => (await storedThisMonth()) > sent - 40);
      }
    })();
    return {
      stop: async () => {
        going = false;
        await publishing;
      },
    };
  };
  const storedThisMonth = async (): Promise<number> => {
    const [row] = await database.query<{ count: number }>(
      `SELECT count(*)::int AS count FROM device_readings WHERE device_id = 'scale_1' AND timestamp > $1`,
      [month(0)],
    );
    return row?.count ?? 0;
  };
  const expectNothingLost = async (): Promise<void> => {
    await until('all that was sent', async () => (await storedThisMonth()) >= sent);
    expect(await storedThisMonth()).toBe(sent);
    expect(await database.query('SELECT reason FROM rejected_messages')).toEqual([]);
    expect(service.log).not.toMatch(/Messages wait|refused a message/);
  };
  /** Everything of this month goes back into the default partition, and its own is gone. */
  const undoThisMonth = async (name: string): Promise<void> => {
    await database.query(`
      DO $$ BEGIN
        ALTER TABLE device_readings DETACH PARTITION ${name};
        INSERT INTO device_readings SELECT * FROM ${name};
        DROP TABLE ${name};
      END $$`);
  };

  it('have a partition a month, made ahead, and one for stray dates', async () => {
    expect(await partitions(database)).toEqual([...AHEAD, 'device_readings_default']);
    const [recent, stray] = [new Date(), new Date('2001-02-03T04:05:06.789Z')];
    await Promise.all([say(recent), say(stray)]);
    await until('both', async () => (await history()).length === 2);
    expect(await rowsBy(database, 'scale_1')).toEqual({ [monthOf(recent)]: 1, device_readings_default: 1 });
    expect(await history()).toEqual([recent.toISOString(), stray.toISOString()]);
    expect(await history('?order=asc&limit=1')).toEqual([stray.toISOString()]);
    expect(await history('?to=2002-01-01T00:00:00Z')).toEqual([stray.toISOString()]);
    // Delivered again, each is absorbed where it is.
    await Promise.all([say(recent), say(stray)]);
    const marker = new Date(recent.getTime() + 1);
    await say(marker);
    await until('the next', async () => (await history())[0] === marker.toISOString());
    expect(await history()).toHaveLength(3);
    await database.query(`DELETE FROM device_readings`);
  });

  it('move into their partition when it is made, and none fails or is lost that comes in meanwhile', async () => {
    const name = monthOf(month(0));
    await undoThisMonth(name);
    await database.query(
      `INSERT INTO device_readings (device_id, metric_type, value, timestamp)
       SELECT 'bulk', 'weight', 70, $1::timestamptz + n * INTERVAL '1 ms' FROM generate_series(0, 199999) AS n`,
      [month(0)],
    );
    const publishing = keepPublishing();
    await until('the first of them', async () => (await storedThisMonth()) > 100);
    expect(await rowsBy(database, 'scale_1')).toEqual({ device_readings_default: expect.any(Number) });
    const second = await Service.start({ DATABASE_URL: database.url });
    await until('the partition', async () => (await partitions(database)).includes(name));
    const before = await storedThisMonth();
    await until('more of them', async () => (await storedThisMonth()) > before);
    await publishing.stop();
    await expectNothingLost();
    expect(await rowsBy(database, 'scale_1')).toEqual({ [name]: sent });
    expect(await rowsBy(database, 'bulk')).toEqual({ [name]: 200_000 });
    expect(second.log).toMatch(new RegExp(`${name} made, \\d{6} readings moved into it`));
    expect((await history('?limit=1'))[0]).toBe(new Date(month(0).getTime() + sent).toISOString());
    await second.remove();
  });

  it('are dropped by whole partitions past READINGS_RETENTION, stray ones when they have been here as long', async () => {
    const [old, kept] = ['device_readings_2019_12', monthOf(month(-5))];
    await database.query(
      `CREATE TABLE ${old} PARTITION OF device_readings FOR VALUES FROM ('2019-12-01Z') TO ('2020-01-01Z')`,
    );
    await database.query(
      `CREATE TABLE ${kept} PARTITION OF device_readings
       FOR VALUES FROM ('${month(-5).toISOString()}') TO ('${month(-4).toISOString()}')`,
    );
    const longAgo = new Date(Date.now() - 366 * DAY_MS);
    for (const [deviceId, measuredAt, receivedAt] of [
      ['dropped', new Date('2019-12-31T23:59:59Z'), new Date()],
      ['kept', month(-5), month(-5)],
      ['unset_clock', new Date(0), new Date()],
      ['stray', new Date(0), longAgo],
      ['late', new Date(Date.now() - 364 * DAY_MS), longAgo],
    ] as const) {
      const values = [deviceId, measuredAt, receivedAt];
      await database.query(
        `INSERT INTO device_readings (device_id, metric_type, value, timestamp, received_at)
         SELECT $1, 'weight', n, $2, $3 FROM generate_series(1, 10000) AS n`,
        values,
      );
      await database.query(
        `INSERT INTO device_waveforms
           (device_id, lead, sampling_rate, unit, samples, samples_digest, timestamp, received_at)
         VALUES ($1, 'II', 250, 'mV', '{0}', '', $2, $3)`,
        values,
      );
    }
    const publishing = keepPublishing();
    const reader = new Client({ connectionString: database.url });
    await reader.connect();
    await reader.query('BEGIN');
    await reader.query('SELECT count(*) FROM device_readings');
    const strict = await Service.start({ DATABASE_URL: database.url, READINGS_RETENTION: '365d' });
    // A long export keeps the partition from being dropped: that waits, and nothing else does.
    await until('it to give up', () => strict.log.includes('Not up to date (55P03)'));
    const before = await storedThisMonth();
    await until('more readings', async () => (await storedThisMonth()) > before);
    expect(await partitions(database)).toContain(old);
    await strict.end();
    await reader.end();
    await strict.launch();

    const devicesOf = async (table: string): Promise<string[]> => {
      const rows = await database.query<{ id: string }>(
        `SELECT DISTINCT device_id AS id FROM ${table} WHERE device_id NOT IN ('scale_1', 'bulk') ORDER BY 1`,
      );
      return rows.map(({ id }) => id);
    };
    await until('the waveforms', async () => !(await devicesOf('device_waveforms')).includes('stray'));
    expect(await partitions(database)).toEqual([kept, ...AHEAD, 'device_readings_default']);
    expect(await devicesOf('device_readings')).toEqual(['kept', 'late', 'unset_clock']);
    expect(await devicesOf('device_waveforms')).toEqual(['dropped', 'kept', 'late', 'unset_clock']);
    await publishing.stop();
    await expectNothingLost();
    expect(strict.log.match(/Not up to date/g)).toHaveLength(1);
    await strict.remove();
  });

  it('get each partition once when three services start together', async () => {
    const fresh = await create();
    const replicas = await Promise.all(
      [1, 2, 3].map(() => Service.start({ DATABASE_URL: fresh.url, READINGS_RETENTION: '3650d' })),
    );
    await untilMade(fresh);
    for (const replica of replicas) expect(await replica.end()).toBe(0);
    const said = replicas.flatMap(({ log }) => log.match(/"context":"Partitions","msg":"[^"]*"/g) ?? []);
    expect(said.sort()).toEqual(AHEAD.map((name) => `"context":"Partitions","msg":"${name} made"`));
    await Promise.all(replicas.map((replica) => replica.remove()));
    await fresh.drop();
  });

  it('survive the change of a database that has shipped, and the way back', async () => {
    const shipped = await create();
    const migrations = [InitialSchema1764000000000, CompactReadings1764100000000, ...LATER];
    const connect = (count: number): Promise<DataSource> =>
      new DataSource({
        type: 'postgres',
        url: shipped.url,
        migrations: migrations.slice(0, count),
      }).initialize();
    const rows = (): Promise<unknown[]> =>
      shipped.query(
        `SELECT id, device_id, metric_type, value, unit, timestamp, metadata, received_at
         FROM device_readings ORDER BY id`,
      );
    const columns = async (): Promise<string[]> => {
      const found = await shipped.query<{ name: string; type: string }>(
        `SELECT attname AS name, format_type(atttypid, atttypmod) AS type FROM pg_attribute
         WHERE attrelid = 'device_readings'::regclass AND attnum > 0 ORDER BY attnum`,
      );
      return found.map(({ name, type }) => `${name} ${type}`);
    };

    const first = await connect(1);
    await first.runMigrations();
    await first.destroy();
    // Two values of one instant, months apart, microseconds, no unit; equal ones are refused by the key already.
    await shipped.query(
      `INSERT INTO device_readings (device_id, metric_type, value, unit, timestamp, metadata, received_at)
       SELECT 'Ä_' || n % 3, 'weight', 60 + n % 2 + 0.25, NULLIF('kg', CASE WHEN n % 5 = 0 THEN 'kg' END),
              $1::timestamptz - (n / 2) * INTERVAL '20 days 1 microsecond', jsonb_build_object('n', n), now()
       FROM generate_series(0, 99) AS n ON CONFLICT DO NOTHING`,
      [month(0)],
    );
    const [before, layout] = [await rows(), await columns()];
    expect(before).toHaveLength(100);

    const upgraded = await Service.start({ DATABASE_URL: shipped.url });
    await untilMade(shipped);
    await upgraded.end();
    expect(await rows()).toEqual(before);
    expect((await columns()).sort()).toEqual([...layout].sort());
    expect((await columns())[1]).toBe('timestamp timestamp with time zone');
    const [{ count } = {}] = await shipped.query(`SELECT count(*)::int AS count FROM ${monthOf(month(0))}`);
    expect(count).toBeGreaterThan(0);
    const again = `INSERT INTO device_readings (device_id, metric_type, value, timestamp)
                   SELECT device_id, metric_type, value, timestamp FROM device_readings ON CONFLICT DO NOTHING`;
    await shipped.query(again);
    expect(await rows()).toEqual(before);
    const [{ id } = {}] = await shipped.query<{ id: string }>(
      `INSERT INTO device_readings (device_id, metric_type, value) VALUES ('x', 'weight', 1) RETURNING id`,
    );
    expect(Number(id)).toBeGreaterThan(100);
    await shipped.query(`DELETE FROM device_readings WHERE device_id = 'x'`);

    const back = await connect(migrations.length);
    for (let undone = 0; undone <= LATER.length; undone += 1) await back.undoLastMigration();
    await back.destroy();
    expect(await columns()).toEqual(layout);
    expect(await rows()).toEqual(before);
    await upgraded.launch();
    await untilMade(shipped);
    expect(await rows()).toEqual(before);
    await upgraded.remove();
    await shipped.drop();
  });
});
