// npm run bench -- commands: how long a command is on its way to a device that is online, and how long it takes to send
// what waits for many devices that come online at once, while measurements are taken in.
import { mkdirSync, writeFileSync } from 'node:fs';
import { Agent, request } from 'node:http';
import { cpus, loadavg } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { parseArgs } from 'node:util';
import type { MqttClient } from 'mqtt';
import { createDatabase, type TestDatabase } from '../support/database.js';
import { Mosquitto } from '../support/mosquitto.js';
import { Service } from '../support/service.js';
import { until } from '../support/until.js';
import type { GeneratorOrder, GeneratorReport } from './generator.js';
import { BenchPostgres } from './postgres.js';
import { cpuSeconds, Script } from './processes.js';

const WARM_UP = 200;
const PER_DEVICE = 10;

/** Commands as they arrive: device, id and the moment. */
class Devices {
  readonly arrivals = new Map<string, number>();
  readonly order = new Map<string, string[]>();
  twice = 0;

  private constructor(readonly client: MqttClient) {}

  /** @param answering whether each command is acknowledged and completed at once. */
  static async of(service: Service, answering: boolean): Promise<Devices> {
    const devices = new Devices(await service.mqtt());
    devices.client.on('message', (topic, payload) => {
      const at = performance.now();
      const deviceId = topic.split('/')[1] ?? '';
      const { command_id: id } = JSON.parse(payload.toString()) as { command_id: string };
      if (devices.arrivals.has(id)) devices.twice += 1;
      devices.arrivals.set(id, at);
      const order = devices.order.get(deviceId);
      if (order) order.push(id);
      else devices.order.set(deviceId, [id]);
      if (answering)
        for (const status of ['acknowledged', 'completed'])
          devices.client.publish(
            `devices/${deviceId}/responses`,
            JSON.stringify({ command_id: id, status }),
            { qos: 1 },
          );
    });
    await devices.client.subscribeAsync('devices/+/commands', { qos: 1 });
    return devices;
  }
}

class CommandBench {
  private constructor(
    private readonly postgres: BenchPostgres,
    private readonly mosquitto: Mosquitto,
  ) {}

  static async prepare(statements: boolean): Promise<CommandBench> {
    const mosquitto = await Mosquitto.prepare(['max_queued_messages 2000000', 'max_inflight_messages 2000']);
    await mosquitto.start();
    return new CommandBench(await BenchPostgres.start(statements), mosquitto);
  }

  async end(): Promise<void> {
    await this.mosquitto.remove();
    await this.postgres.remove();
  }

  async statements(): Promise<readonly string[]> {
    return this.postgres.topStatements();
  }

  private async stage<T>(work: (service: Service, database: TestDatabase) => Promise<T>): Promise<T> {
    const database = await createDatabase(this.postgres.url);
    const service = await Service.start({
      DATABASE_URL: database.url,
      ...this.mosquitto.env,
      MQTT_CLIENT_ID: `bench_${Date.now()}`,
    });
    try {
      return await work(service, database);
    } finally {
      await service.remove();
      await database.drop();
    }
  }

  /** Milliseconds from POST to arrival, and from POST to answer, at so many a second. */
  async latency(rate: number, count: number): Promise<{ arrival: number[]; answer: number[]; cpu: number }> {
    return this.stage(async (service, database) => {
      await database.query(
        `INSERT INTO medical_devices (device_id, patient_id, type, status, last_seen)
         SELECT 'bench_' || i, i + 1, 'pulse_oximeter', 'online', now() FROM generate_series(0, 99) i`,
      );
      const devices = await Devices.of(service, true);
      const agent = new Agent({ keepAlive: true });
      const authorization = `Bearer ${await service.token()}`;
      const sent: { id: string; begun: number; answered: number }[] = [];
      const orders: Promise<void>[] = [];
      const begun = performance.now();
      const cpuBefore = cpuSeconds(service.pid);
      for (let index = 0; index < count + WARM_UP; index += 1) {
        const due = begun + (index * 1_000) / rate;
        if (due > performance.now()) await sleep(due - performance.now());
        orders.push(
          post(agent, service.port, authorization, `bench_${index % 100}`).then(
            (order) => void sent.push(order),
          ),
        );
      }
      await Promise.all(orders);
      await until('all to arrive', () => sent.every(({ id }) => devices.arrivals.has(id)));
      const cpu = cpuSeconds(service.pid) - cpuBefore;
      agent.destroy();
      await devices.client.endAsync();
      const measured = sent.sort((a, b) => a.begun - b.begun).slice(WARM_UP);
      return {
        arrival: measured.map(({ id, begun: from }) => (devices.arrivals.get(id) ?? NaN) - from),
        answer: measured.map(({ begun: from, answered }) => answered - from),
        cpu: (cpu * 1e6) / (count + WARM_UP),
      };
    });
  }

  /** Milliseconds until all that waits for so many devices has arrived, once they say that they are online. */
  async burst(devicesCount: number, ingestRate: number): Promise<{ ms: number; ingestLag: number }> {
    return this.stage(async (service, database) => {
      await database.query(
        `INSERT INTO medical_devices (device_id, patient_id, type)
         SELECT kind || '_' || i, i + 1, 'blood_pressure_monitor'
         FROM generate_series(0, ${devicesCount - 1}) i, (VALUES ('bench'), ('waiting')) k (kind)`,
      );
      await database.query(
        `INSERT INTO device_commands (command_id, device_id, command, parameters, status, created_by, expires_at)
         SELECT gen_random_uuid(), 'waiting_' || d, 'set_interval', '{"interval": 30}', 'queued', 'bench', now() + INTERVAL '1h'
         FROM generate_series(1, ${PER_DEVICE}) n, generate_series(0, ${devicesCount - 1}) d`,
      );
      const devices = await Devices.of(service, false);
      const { port, username, password } = this.mosquitto;
      const seconds = 20;
      const order: GeneratorOrder = {
        port,
        username,
        password,
        connections: 4,
        devices: devicesCount,
        messages: ingestRate * seconds,
        rate: ingestRate,
      };
      const generator = Script.start('generator', [JSON.stringify(order)]);
      const report = generator.line();
      await until('the ingest to be under way', async () => {
        const [row] = await database.query<{ count: string }>('SELECT count(*) FROM device_readings');
        return Number(row?.count) > ingestRate;
      });
      const client = await service.mqtt();
      const begun = performance.now();
      for (let index = 0; index < devicesCount; index += 1)
        client.publish(`devices/waiting_${index}/status`, '{"status":"online"}', { qos: 1 });
      const expected = devicesCount * PER_DEVICE;
      await until('all to arrive', () => devices.arrivals.size === expected, 120_000);
      const ms = Math.max(...devices.arrivals.values()) - begun;
      const ledger = await database.query<{ device_id: string; command_id: string }>(
        'SELECT device_id, command_id FROM device_commands ORDER BY id',
      );
      const due = new Map<string, string[]>();
      for (const { device_id: id, command_id } of ledger) due.set(id, [...(due.get(id) ?? []), command_id]);
      for (const [id, ids] of due)
        if (devices.order.get(id)?.join() !== ids.join())
          throw new Error(`${id} was not sent each once, in order`);
      const { lastAcknowledgedAt } = JSON.parse(await report) as GeneratorReport;
      await until('the rest of the ingest', async () => {
        const [row] = await database.query<{ count: string }>('SELECT count(*) FROM device_readings');
        return Number(row?.count) === ingestRate * seconds * 3;
      });
      const [last] = await database.query<{ at: string }>(
        'SELECT extract(epoch FROM max(pg_xact_commit_timestamp(xmin))) * 1000 AS at FROM device_readings',
      );
      await generator.end();
      await client.endAsync();
      await devices.client.endAsync();
      return { ms, ingestLag: Number(last?.at) - lastAcknowledgedAt };
    });
  }
}

function post(
  agent: Agent,
  port: number,
  authorization: string,
  deviceId: string,
): Promise<{ id: string; begun: number; answered: number }> {
  const begun = performance.now();
  const body = '{"command":"measure_now"}';
  return new Promise((resolve, reject) => {
    const headers = { authorization, 'content-type': 'application/json', 'content-length': body.length };
    const options = {
      host: '127.0.0.1',
      port,
      agent,
      method: 'POST',
      path: `/devices/${deviceId}/command`,
      headers,
    };
    const asked = request(options, (response) => {
      let text = '';
      response.setEncoding('utf8').on('data', (chunk: string) => (text += chunk));
      response.on('end', () => {
        if (response.statusCode !== 202) {
          reject(new Error(`answered ${response.statusCode}: ${text}`));
          return;
        }
        const { command_id: id } = JSON.parse(text) as { command_id: string };
        resolve({ id, begun, answered: performance.now() });
      });
    });
    asked.on('error', reject).end(body);
  });
}

const quantile = (values: readonly number[], share: number): number =>
  [...values].sort((a, b) => a - b)[Math.min(values.length - 1, Math.floor(values.length * share))] ?? NaN;
const median = (values: readonly number[]): number => quantile(values, 0.5);
const ms = (value: number): string => value.toFixed(1);
const say = (line: string): void => void process.stdout.write(`${line}\n`);

async function main(): Promise<void> {
  const { values } = parseArgs({
    args: process.argv.slice(2),
    options: {
      rate: { type: 'string', default: '100' },
      commands: { type: 'string', default: '2000' },
      devices: { type: 'string', default: '1000' },
      ingest: { type: 'string', default: '1000' },
      rounds: { type: 'string', default: '3' },
      only: { type: 'string', default: '' },
      statements: { type: 'boolean', default: false },
    },
  });
  // As `npm start` runs it; source maps would cost what users do not pay.
  process.env['SERVICE_NODE_OPTIONS'] ??= '';
  const [rate, commands, devices, ingest, rounds] = [
    Number(values.rate),
    Number(values.commands),
    Number(values.devices),
    Number(values.ingest),
    Number(values.rounds),
  ];
  const wanted = (name: string): boolean => values.only === '' || values.only.split(',').includes(name);
  const bench = await CommandBench.prepare(values.statements);
  const runs: Record<'latency' | 'burst', Record<string, number>[]> = { latency: [], burst: [] };
  const statements = async (): Promise<void> => {
    if (values.statements) for (const line of await bench.statements()) say(line);
  };
  try {
    for (let round = 1; round <= rounds; round += 1) {
      const load = loadavg()[0] ?? NaN;
      if (wanted('latency')) {
        const { arrival, answer, cpu } = await bench.latency(rate, commands);
        const run = {
          load,
          p50: quantile(arrival, 0.5),
          p99: quantile(arrival, 0.99),
          answerP50: quantile(answer, 0.5),
          answerP99: quantile(answer, 0.99),
          cpu,
        };
        runs.latency.push(run);
        say(
          `round ${round}  POST to arrival p50 ${ms(run.p50)} ms, p99 ${ms(run.p99)} ms; to the answer p50 ${ms(run.answerP50)} ms, ` +
            `p99 ${ms(run.answerP99)} ms; CPU ${cpu.toFixed(0)} us a command; load before ${load.toFixed(1)}`,
        );
        await statements();
      }
      if (wanted('burst')) {
        const run = { load, ...(await bench.burst(devices, ingest)) };
        runs.burst.push(run);
        say(
          `round ${round}  ${devices * PER_DEVICE} commands for ${devices} devices at once: ${(run.ms / 1_000).toFixed(1)} s; ` +
            `ingest behind by ${run.ingestLag.toFixed(0)} ms at its end; load before ${load.toFixed(1)}`,
        );
        await statements();
      }
    }
  } finally {
    await bench.end();
  }
  const of = (name: 'latency' | 'burst', key: string): number =>
    median(runs[name].map((run) => run[key] ?? NaN));
  if (wanted('latency'))
    say(
      `at ${rate}/s: POST to arrival p50 ${ms(of('latency', 'p50'))} ms, p99 ${ms(of('latency', 'p99'))} ms`,
    );
  if (wanted('burst')) say(`queued commands sent within ${(of('burst', 'ms') / 1_000).toFixed(1)} s`);
  mkdirSync(join('.data', 'reports'), { recursive: true });
  const machine = { cores: cpus().length, model: cpus()[0]?.model, node: process.version };
  writeFileSync(
    join('.data', 'reports', 'bench-commands.json'),
    `${JSON.stringify({ at: new Date().toISOString(), machine, rate, commands, devices, ingest, rounds, runs }, null, 2)}\n`,
  );
}

await main();
