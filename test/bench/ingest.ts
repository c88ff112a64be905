// npm run bench -- ingest: how fast measurements are taken in, against the database's own limit, the shortest script that
// loses nothing, and the framework's documented way; in the same run, in turns.
import { createReadStream, createWriteStream, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { cpus, tmpdir } from 'node:os';
import { join } from 'node:path';
import { pipeline } from 'node:stream/promises';
import { parseArgs } from 'node:util';
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

const READINGS_PER_MESSAGE = 3;
const DEVICES = 1_000;
const CONNECTIONS = 4;
const MIB = 1_024 * 1_024;

/** What one run of one subject gave. */
interface Run {
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
interface Subject {
  readonly pid: number;
  readonly broker: Account;
  readonly brokerPid: number;
  stop(): Promise<void>;
}

class IngestBench {
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

const median = (values: readonly number[]): number => {
  const sorted = [...values].sort((a, b) => a - b);
  return sorted[Math.floor(sorted.length / 2)] ?? 0;
};
const whole = (value: number): string => Math.round(value).toLocaleString('en');
const say = (line = ''): void => void process.stdout.write(`${line}\n`);

/** The service's configuration in the plain runs. */
const NO_EVENTS: Record<string, string> = { MQTT_TOPIC_EVENTS: '' };

async function main(): Promise<void> {
  const { values } = parseArgs({
    args: process.argv.slice(2),
    options: {
      messages: { type: 'string', default: '200000' },
      rounds: { type: 'string', default: '3' },
      backlog: { type: 'string', default: '1000000' },
      only: { type: 'string', default: '' },
      statements: { type: 'boolean', default: false },
      env: { type: 'string', multiple: true, default: [] },
    },
  });
  // As `npm start` runs it; source maps would cost memory that users do not pay.
  process.env['SERVICE_NODE_OPTIONS'] ??= '';
  for (const setting of values.env) {
    const [name = '', value = ''] = setting.split(/=(.*)/s);
    NO_EVENTS[name] = value;
  }
  const messages = Number(values.messages);
  const rounds = Number(values.rounds);
  const wanted = (name: string): boolean => values.only === '' || values.only.split(',').includes(name);
  const bench = await IngestBench.prepare(values.statements);
  try {
    const burst = { messages, rate: null };
    const subjects: Record<string, () => Promise<Run>> = {
      service: () => bench.run((database) => bench.service(database, NO_EVENTS), burst),
      watched: () => bench.run((database) => bench.watched(database), burst),
      embedded: () => bench.run((database) => bench.embedded(database), burst),
      reference: () => bench.run((database) => bench.script('reference', database), burst),
      naive: () =>
        bench.run((database) => bench.script('naive', database), {
          messages: Math.ceil(messages / 10),
          rate: null,
        }),
    };
    const names = Object.keys(subjects).filter(wanted);
    const runs: Record<string, Run[]> = Object.fromEntries(names.map((name) => [name, []]));
    const floors: number[] = [];
    for (let round = 1; round <= rounds; round += 1) {
      for (const name of names) {
        const run = await subjects[name]?.();
        if (!run) continue;
        runs[name]?.push(run);
        const { subject, database, broker, generator } = run.cpu;
        say(
          `round ${round}  ${name.padEnd(10)} ${whole(run.messagesPerSecond).padStart(8)} messages/s   ` +
            `CPU us a message: ${whole(subject)} + database ${whole(database)} + broker ${whole(broker)} + generator ${whole(generator)}   ` +
            `peak RSS ${whole(run.peakRss / MIB)} MiB`,
        );
        if (values.statements) for (const line of await bench.postgres.topStatements()) say(line);
      }
      if (wanted('floor')) {
        const floor = await bench.floor(messages);
        floors.push(floor);
        say(`round ${round}  floor      ${whole(floor).padStart(8)} messages/s`);
      }
    }
    const speed = (name: string): number => median((runs[name] ?? []).map((run) => run.messagesPerSecond));
    const ratio = (a: number, b: number): number | null =>
      a > 0 && b > 0 ? Math.round((a / b) * 100) / 100 : null;
    const report: Record<string, unknown> = {
      at: new Date().toISOString(),
      machine: { cores: cpus().length, model: cpus()[0]?.model, node: process.version },
      messages,
      rounds,
      messagesPerSecond: {
        ...Object.fromEntries(names.map((name) => [name, speed(name)])),
        floor: median(floors),
      },
      ratios: {
        'a/b service to COPY floor': ratio(speed('service'), median(floors)),
        'a/c service to reference': ratio(speed('service'), speed('reference')),
        'a/c with events and a watcher': ratio(speed('watched'), speed('reference')),
        'a/d service to naive peer': ratio(speed('service'), speed('naive')),
      },
      runs,
    };
    say();
    for (const name of names)
      say(
        `${name.padEnd(10)} ${whole(speed(name)).padStart(8)} messages/s ${whole(speed(name) * READINGS_PER_MESSAGE).padStart(8)} readings/s`,
      );
    if (floors.length > 0)
      say(
        `floor      ${whole(median(floors)).padStart(8)} messages/s ${whole(median(floors) * READINGS_PER_MESSAGE).padStart(8)} readings/s`,
      );
    for (const [name, value] of Object.entries(report['ratios'] as Record<string, number | null>))
      if (value !== null) say(`${name}: ${value.toFixed(2)}`);

    if (wanted('rates')) {
      const rates: Record<string, unknown> = {};
      for (const rate of [500, 2_000, 5_000]) {
        const results: Run[] = [];
        for (let round = 0; round < rounds; round += 1)
          results.push(
            await bench.run((database) => bench.service(database, NO_EVENTS), { messages: rate * 5, rate }),
          );
        const p50 = median(results.map((run) => run.p50));
        const p99 = median(results.map((run) => run.p99));
        rates[rate] = { p50, p99 };
        say(
          `at ${whole(rate)} messages/s: publish to commit p50 ${p50.toFixed(1)} ms, p99 ${p99.toFixed(1)} ms`,
        );
      }
      report['latency'] = rates;
    }
    if (wanted('disk')) {
      const size = await bench.bytesPerReading(messages);
      report['bytesPerReading'] = size;
      say(
        `on disk: ${size.heap.toFixed(0)} bytes a reading in the table, ${size.index.toFixed(0)} in its index`,
      );
    }
    if (wanted('backlog')) {
      const waiting = Number(values.backlog);
      const run = await bench.backlog(waiting);
      report['backlog'] = { messages: waiting, ...run };
      say(
        `with ${whole(waiting)} messages waiting in the broker: ${whole(run.messagesPerSecond)} messages/s, peak RSS ${whole(run.peakRss / MIB)} MiB`,
      );
    }
    mkdirSync(join('.data', 'reports'), { recursive: true });
    writeFileSync(join('.data', 'reports', 'bench-ingest.json'), `${JSON.stringify(report, null, 2)}\n`);
  } finally {
    await bench.end();
  }
}

await main();
