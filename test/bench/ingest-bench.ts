import { createReadStream, createWriteStream, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { pipeline } from 'node:stream/promises';
import { connectAsync } from 'mqtt';
import { Client } from 'pg';
import { from as copyFrom, to as copyTo } from 'pg-copy-streams';
import { createDatabase, type TestDatabase } from '../support/database.js';
import { Mosquitto } from '../support/mosquitto.js';
import { Service } from '../support/service.js';
import { until } from '../support/until.js';
import type { GeneratorOrder, GeneratorReport } from './generator.js';
import { BenchPostgres } from './postgres.js';
import { cpuSeconds, peakMemory, Script } from './processes.js';

export const READINGS_PER_MESSAGE = 3;
const DEVICES = 1_000;
const CONNECTIONS = 4;
export const MIB = 1_024 * 1_024;

/** What one run of one subject gave. */
export interface Run {
  readonly messagesPerSecond: number;
  /** Processor time a message, in microseconds, of the subject, the database, the broker and the generator. */
  readonly cpu: Readonly<Record<'subject' | 'database' | 'broker' | 'generator', number>>;
  readonly peakRss: number;
  /** Milliseconds from publish to commit. */
  readonly p50: number;
  readonly p99: number;
}

interface Account {
  readonly port: number;
  readonly username: string;
  readonly password: string;
}

/** Something that stores what the generator publishes. */
export interface Subject {
  readonly pid: number;
  readonly broker: Account;
  readonly brokerPid: number;
  stop(): Promise<void>;
}

/** What is measured: subjects that store what a generator publishes, and how. */
export class IngestBench {
  private constructor(
    readonly postgres: BenchPostgres,
    private readonly mosquitto: Mosquitto,
  ) {}

  static async prepare(statements: boolean): Promise<IngestBench> {
    const mosquitto = await Mosquitto.prepare([
      'max_queued_messages 2000000',
      'max_inflight_messages 4000',
      'autosave_interval 10',
    ]);
    await mosquitto.start();
    return new IngestBench(await BenchPostgres.start(statements), mosquitto);
  }

  async end(): Promise<void> {
    await this.mosquitto.remove();
    await this.postgres.remove();
  }

  /** Runs one subject once, against a database of its own. */
  async run(
    start: (database: TestDatabase) => Promise<Subject>,
    load: { readonly messages: number; readonly rate: number | null },
  ): Promise<Run> {
    const database = await createDatabase(this.postgres.url);
    try {
      const schema = await this.service(database, {});
      await database.query(
        `INSERT INTO medical_devices (device_id, patient_id, type)
         SELECT 'bench_' || i, i + 1, 'blood_pressure_monitor' FROM generate_series(0, ${DEVICES - 1}) i`,
      );
      await schema.stop();
      await database.query('CHECKPOINT');
      const subject = await start(database);
      try {
        return await this.measure(database, subject, load);
      } finally {
        await subject.stop();
      }
    } finally {
      await database.drop();
    }
  }

  /** The service on Mosquitto. */
  async service(database: TestDatabase, env: Readonly<Record<string, string>>): Promise<Subject> {
    const { mosquitto } = this;
    const clientId = env['MQTT_CLIENT_ID'] ?? `bench_${Date.now()}`;
    const service = await Service.start({
      DATABASE_URL: database.url,
      ...mosquitto.env,
      MQTT_CLIENT_ID: clientId,
      ...env,
    });
    return {
      pid: service.pid,
      broker: mosquitto,
      brokerPid: mosquitto.pid,
      stop: async () => {
        await service.remove();
        if (env['MQTT_CLIENT_ID'] === undefined) await this.forget(clientId);
      },
    };
  }

  /** The service on its embedded broker, which runs in the service's own process. */
  async embedded(database: TestDatabase): Promise<Subject> {
    const service = await Service.start({ DATABASE_URL: database.url, MQTT_TOPIC_EVENTS: '' });
    const broker = { port: service.brokerPort, username: 'mqtt_user', password: 'mqtt_password' };
    return { pid: service.pid, broker, brokerPid: 0, stop: () => service.remove() };
  }

  /** With events on the broker and one WebSocket that watches. */
  async watched(database: TestDatabase): Promise<Subject> {
    const clientId = `bench_watched_${Date.now()}`;
    const service = await Service.start({
      DATABASE_URL: database.url,
      ...this.mosquitto.env,
      MQTT_CLIENT_ID: clientId,
    });
    const url = `ws://127.0.0.1:${service.port}/ws/mqtt?token=${await service.token()}`;
    const watcher = Script.start('watcher', [url]);
    await watcher.line();
    return {
      pid: service.pid,
      broker: this.mosquitto,
      brokerPid: this.mosquitto.pid,
      stop: async () => {
        await watcher.end();
        await service.remove();
        await this.forget(clientId);
      },
    };
  }

  /** A script of this folder that takes broker and database as arguments and prints a line when it is ready. */
  async script(name: string, database: TestDatabase): Promise<Subject> {
    const { mosquitto } = this;
    const { port, username, password } = mosquitto;
    const clientId = `bench_${name}_${Date.now()}`;
    const script = Script.start(name, [String(port), username, password, database.url, clientId]);
    await script.line();
    return {
      pid: script.pid,
      broker: mosquitto,
      brokerPid: mosquitto.pid,
      stop: () => script.end().then(() => this.forget(clientId)),
    };
  }

  /** Ends a durable session, which would otherwise go on collecting and burden the runs that follow. */
  private async forget(clientId: string): Promise<void> {
    const { port, username, password } = this.mosquitto;
    const client = await connectAsync({ host: '127.0.0.1', port, username, password, clientId, clean: true });
    await client.endAsync();
  }

  /** COPY of the rows a run has stored into an empty table of the same shape. @returns messages a second. */
  async floor(messages: number): Promise<number> {
    const database = await createDatabase(this.postgres.url);
    const folder = mkdtempSync(join(tmpdir(), 'mqtt-service-bench-'));
    const client = new Client({ connectionString: database.url });
    try {
      const schema = await this.service(database, {});
      await schema.stop();
      await client.connect();
      const columns = 'device_id, metric_type, value, unit, timestamp, metadata, received_at';
      await client.query(
        `CREATE TEMP TABLE source AS
         SELECT 'bench_' || m % ${DEVICES} AS device_id, metric_type, value, unit,
                date_trunc('milliseconds', now()) + m * INTERVAL '1 microsecond' AS timestamp,
                '{}'::jsonb AS metadata, now() AS received_at
         FROM generate_series(1, ${messages}) m,
              (VALUES ('systolic', 120, 'mm[Hg]'), ('diastolic', 80, 'mm[Hg]'), ('heart_rate', 72, '/min')) v (metric_type, value, unit)`,
      );
      const file = join(folder, 'rows');
      await pipeline(
        client.query(copyTo(`COPY (SELECT ${columns} FROM source) TO STDOUT`)),
        createWriteStream(file),
      );
      await client.query('CHECKPOINT');
      const begun = performance.now();
      await pipeline(
        createReadStream(file, { highWaterMark: MIB }),
        client.query(copyFrom(`COPY device_readings (${columns}) FROM STDIN`)),
      );
      return messages / ((performance.now() - begun) / 1_000);
    } finally {
      await client.end();
      rmSync(folder, { recursive: true, force: true });
      await database.drop();
    }
  }

  /** Bytes of device_readings and its indexes a reading, after a run of the service. */
  async bytesPerReading(messages: number): Promise<{ heap: number; index: number }> {
    const database = await createDatabase(this.postgres.url);
    try {
      const subject = await this.startRegistered(database, { MQTT_TOPIC_EVENTS: '' });
      await this.measure(database, subject, { messages, rate: null });
      await subject.stop();
      await database.query('VACUUM device_readings');
      const [size] = await database.query<{ heap: string; index: string; rows: string }>(
        `SELECT sum(pg_table_size(relid)) AS heap, sum(pg_indexes_size(relid)) AS index,
                (SELECT count(*) FROM device_readings) AS rows
         FROM pg_partition_tree('device_readings') WHERE isleaf`,
      );
      const rows = Number(size?.rows);
      return { heap: Number(size?.heap) / rows, index: Number(size?.index) / rows };
    } finally {
      await database.drop();
    }
  }

  /** Messages wait in the broker before the service starts. */
  async backlog(messages: number): Promise<Run> {
    const database = await createDatabase(this.postgres.url);
    const env = { MQTT_TOPIC_EVENTS: '', MQTT_CLIENT_ID: `bench_backlog_${Date.now()}` };
    try {
      const first = await this.startRegistered(database, env);
      await first.stop();
      const { report } = await this.publish(this.mosquitto, { messages, rate: null });
      const begun = performance.timeOrigin + performance.now();
      const subject = await this.service(database, env);
      try {
        const last = await this.untilStored(database, messages, 600_000);
        return {
          messagesPerSecond: messages / ((last - begun) / 1_000),
          cpu: { subject: 0, database: 0, broker: 0, generator: 0 },
          peakRss: peakMemory(subject.pid),
          p50: 0,
          p99: last - report.firstPublishedAt,
        };
      } finally {
        await subject.stop();
        await this.forget(env.MQTT_CLIENT_ID);
      }
    } finally {
      await database.drop();
    }
  }

  private async startRegistered(
    database: TestDatabase,
    env: Readonly<Record<string, string>>,
  ): Promise<Subject> {
    const subject = await this.service(database, env);
    await database.query(
      `INSERT INTO medical_devices (device_id, patient_id, type)
       SELECT 'bench_' || i, i + 1, 'blood_pressure_monitor' FROM generate_series(0, ${DEVICES - 1}) i`,
    );
    return subject;
  }

  private async publish(
    broker: Account,
    load: { readonly messages: number; readonly rate: number | null },
  ): Promise<{ report: GeneratorReport; cpu: number }> {
    const { port, username, password } = broker;
    const order: GeneratorOrder = {
      port,
      username,
      password,
      connections: CONNECTIONS,
      devices: DEVICES,
      ...load,
    };
    const generator = Script.start('generator', [JSON.stringify(order)]);
    try {
      const report = JSON.parse(await generator.line()) as GeneratorReport;
      return { report, cpu: cpuSeconds(generator.pid) };
    } finally {
      await generator.end();
    }
  }

  /** Waits until every row is committed. @returns when the last one was, in milliseconds since 1970. */
  private async untilStored(database: TestDatabase, messages: number, timeoutMs = 180_000): Promise<number> {
    const expected = messages * READINGS_PER_MESSAGE;
    await until(
      `${expected} rows`,
      async () => {
        // Cheap while rows stream in; the exact count follows once they can all be there.
        const [sequence] = await database.query<{ last_value: string }>(
          'SELECT last_value FROM device_readings_id_seq',
        );
        if (Number(sequence?.last_value) < expected) return false;
        const [rows] = await database.query<{ count: string }>('SELECT count(*) FROM device_readings');
        return Number(rows?.count) === expected;
      },
      timeoutMs,
    );
    const [row] = await database.query<{ last: string }>(
      `SELECT extract(epoch FROM max(pg_xact_commit_timestamp(xmin))) * 1000 AS last FROM device_readings`,
    );
    return Number(row?.last);
  }

  private async measure(
    database: TestDatabase,
    subject: Subject,
    load: { readonly messages: number; readonly rate: number | null },
  ): Promise<Run> {
    const parts = { subject: subject.pid, database: this.postgres.pid, broker: subject.brokerPid };
    const before = Object.fromEntries(Object.entries(parts).map(([name, pid]) => [name, cpuSeconds(pid)]));
    const { report, cpu } = await this.publish(subject.broker, load);
    const last = await this.untilStored(database, load.messages);
    const perMessage = (seconds: number): number => (seconds * 1e6) / load.messages;
    const used = (name: keyof typeof parts): number =>
      perMessage(cpuSeconds(parts[name]) - (before[name] ?? 0));
    const [latency] = await database.query<{ p50: string; p99: string }>(
      `SELECT percentile_cont(0.5) WITHIN GROUP (ORDER BY ms) AS p50, percentile_cont(0.99) WITHIN GROUP (ORDER BY ms) AS p99
       FROM (SELECT extract(epoch FROM pg_xact_commit_timestamp(xmin) - timestamp) * 1000 AS ms
             FROM device_readings WHERE metric_type = 'systolic') latencies`,
    );
    return {
      messagesPerSecond: load.messages / ((last - report.firstPublishedAt) / 1_000),
      cpu: {
        subject: used('subject'),
        database: used('database'),
        broker: used('broker'),
        generator: perMessage(cpu),
      },
      peakRss: peakMemory(subject.pid),
      p50: Number(latency?.p50),
      p99: Number(latency?.p99),
    };
  }
}
