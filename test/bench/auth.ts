// npm run bench -- auth: what a token, and the audit log, cost a GET; with and without them, in the same run, in turns.
// Asked is one and the same process: of two, one can be a fifth slower for reasons of its own.
import { generateKeyPairSync, type KeyObject } from 'node:crypto';
import { once } from 'node:events';
import { mkdirSync, writeFileSync } from 'node:fs';
import { Agent, createServer, request, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { cpus } from 'node:os';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { parseArgs } from 'node:util';
import { exportJWK, SignJWT } from 'jose';
import { createDatabase, type TestDatabase } from '../support/database.js';
import { Service } from '../support/service.js';
import { median, say, whole } from './figures.js';
import { BenchPostgres } from './postgres.js';
import { cpuSeconds } from './processes.js';

const DEVICES = 25;
const READINGS = 100;
const PATHS = ['/devices', '/devices/bench_1', `/devices/bench_1/data?limit=${READINGS}`];
const CONCURRENCIES = [1, 16];
/** By then what is hot has been compiled. */
const WARM_UP = 1_000;
/** Counting requests is part of what a request costs, being refused is not. */
const LIMITS = { RATE_LIMIT_PER_IP: '10000000', RATE_LIMIT_PER_TOKEN: '10000000' };

/** Who asks whom. */
interface Subject {
  readonly name: string;
  readonly service: Service;
  readonly headers: Readonly<Record<string, string>>;
}

/** What one run of requests took, a request. */
interface Run {
  readonly milliseconds: number;
  /** Processor time of the service and of the database, in microseconds. */
  readonly service: number;
  readonly database: number;
}

/** What of which two subjects: the first takes so many times as long as the second. */
const COMPARISONS: readonly (readonly [string, string, string])[] = [
  ['HS256, to no token', 'HS256', 'no token'],
  ['RS256, to no token', 'RS256', 'no token (key server)'],
  ['ES256, to no token', 'ES256', 'no token (key server)'],
  ['HS256, to no token, neither audited', 'HS256, unaudited', 'no token, unaudited'],
  ['audited, to unaudited', 'HS256', 'HS256, unaudited'],
];

class AuthBench {
  private readonly databases: TestDatabase[] = [];
  private readonly services: Service[] = [];
  readonly subjects: Subject[] = [];

  private constructor(
    private readonly postgres: BenchPostgres,
    private readonly keyServer: Server,
  ) {}

  static async prepare(): Promise<AuthBench> {
    const rsa = generateKeyPairSync('rsa', { modulusLength: 2_048 });
    const ec = generateKeyPairSync('ec', { namedCurve: 'P-256' });
    const keys = [
      { ...(await exportJWK(rsa.publicKey)), kid: 'rsa' },
      { ...(await exportJWK(ec.publicKey)), kid: 'ec' },
    ];
    const keyServer = createServer((_request, response) => response.end(JSON.stringify({ keys })));
    keyServer.listen(0, '127.0.0.1');
    await once(keyServer, 'listening');
    const bench = new AuthBench(await BenchPostgres.start(false), keyServer);
    try {
      await bench.startAll(
        await bearer('RS256', rsa.privateKey, 'rsa'),
        await bearer('ES256', ec.privateKey, 'ec'),
      );
    } catch (error) {
      await bench.end();
      throw error;
    }
    return bench;
  }

  private async startAll(rs256: string, es256: string): Promise<void> {
    const { port } = this.keyServer.address() as AddressInfo;
    const bySecret = await this.start();
    const byKeyServer = await this.start({ JWT_SECRET: '', JWT_JWKS_URI: `http://127.0.0.1:${port}/` });
    const hs256 = { authorization: `Bearer ${await bySecret.token()}` };
    const unaudited = { 'x-unaudited': 'yes' };
    this.subjects.push(
      { name: 'no token', service: bySecret, headers: {} },
      { name: 'HS256', service: bySecret, headers: hs256 },
      { name: 'no token, unaudited', service: bySecret, headers: unaudited },
      { name: 'HS256, unaudited', service: bySecret, headers: { ...hs256, ...unaudited } },
      { name: 'RS256', service: byKeyServer, headers: { authorization: rs256 } },
      { name: 'no token (key server)', service: byKeyServer, headers: {} },
      { name: 'ES256', service: byKeyServer, headers: { authorization: es256 } },
    );
  }

  /** A service with a database of its own. */
  private async start(env: Readonly<Record<string, string>> = {}): Promise<Service> {
    const preload = pathToFileURL(join(import.meta.dirname, 'open-door.js')).href;
    // As `npm start` runs it, but for that: source maps would cost what users do not pay.
    const { SERVICE_NODE_OPTIONS: options = '' } = process.env;
    process.env['SERVICE_NODE_OPTIONS'] = `${options} --import ${preload}`;
    const database = await createDatabase(this.postgres.url);
    this.databases.push(database);
    const service = await Service.start({ DATABASE_URL: database.url, ...LIMITS, ...env });
    process.env['SERVICE_NODE_OPTIONS'] = options;
    this.services.push(service);
    await database.query(
      `INSERT INTO medical_devices (device_id, patient_id, type)
       SELECT 'bench_' || i, i, 'blood_pressure_monitor' FROM generate_series(1, ${DEVICES}) i`,
    );
    await database.query(
      `INSERT INTO device_readings (device_id, metric_type, value, unit, timestamp)
       SELECT 'bench_' || device, 'heart_rate', 60 + i % 40, '/min', now() - i * INTERVAL '1 minute'
       FROM generate_series(1, ${DEVICES}) device, generate_series(1, ${READINGS * 10}) i`,
    );
    await database.query('VACUUM ANALYZE');
    return service;
  }

  async end(): Promise<void> {
    for (const service of this.services) await service.remove();
    for (const database of this.databases) await database.drop();
    await this.postgres.remove();
    this.keyServer.close();
    this.keyServer.closeAllConnections();
  }

  /** Asks so many times, over as many connections as there are requests under way. */
  async run(
    { service, headers }: Subject,
    path: string,
    requests: number,
    concurrency: number,
  ): Promise<Run> {
    const agent = new Agent({ keepAlive: true, maxSockets: concurrency });
    let left = requests;
    const ask = async (): Promise<void> => {
      while (left > 0) {
        left -= 1;
        await get(agent, service.port, path, headers);
      }
    };
    const parts = { service: service.pid, database: this.postgres.pid };
    const before = { service: cpuSeconds(parts.service), database: cpuSeconds(parts.database) };
    const begun = performance.now();
    await Promise.all(Array.from({ length: concurrency }, ask));
    const milliseconds = (performance.now() - begun) / requests;
    agent.destroy();
    const used = (part: keyof typeof parts): number =>
      ((cpuSeconds(parts[part]) - before[part]) * 1e6) / requests;
    return { milliseconds, service: used('service'), database: used('database') };
  }
}

/** The answer is read to its end. @throws when it is none that was asked for. */
function get(
  agent: Agent,
  port: number,
  path: string,
  headers: Readonly<Record<string, string>>,
): Promise<void> {
  return new Promise((resolve, reject) => {
    request({ agent, host: '127.0.0.1', port, path, headers }, (response) => {
      if (response.statusCode !== 200) reject(new Error(`${path} answers ${response.statusCode}`));
      response.once('end', resolve).once('error', reject).resume();
    })
      .once('error', reject)
      .end();
  });
}

async function bearer(alg: string, key: KeyObject, kid: string): Promise<string> {
  const token = new SignJWT({ role: 'admin' }).setProtectedHeader({ alg, kid }).setSubject('tester');
  return `Bearer ${await token.setExpirationTime('2h').sign(key)}`;
}

/** A run's processor time is counted in hundredths of a second: all runs together are exact enough. */
const mean = (values: readonly number[]): number =>
  values.reduce((sum, value) => sum + value, 0) / values.length;

async function main(): Promise<void> {
  const { values } = parseArgs({
    args: process.argv.slice(2),
    options: {
      // Short turns, and many of them: what else the machine does then burdens all alike.
      requests: { type: 'string', default: '50' },
      rounds: { type: 'string', default: '31' },
      only: { type: 'string', default: '' },
    },
  });
  const requests = Number(values.requests);
  const rounds = Number(values.rounds);
  const bench = await AuthBench.prepare();
  try {
    const cases: Record<string, unknown>[] = [];
    for (const path of PATHS.filter((each) => values.only === '' || values.only === each)) {
      for (const concurrency of CONCURRENCIES) {
        const runs = new Map<string, Run[]>(bench.subjects.map(({ name }) => [name, []]));
        // The first round warms up and does not count.
        for (let round = 0; round <= rounds; round += 1) {
          // Nobody always goes after the same one.
          const order = round % 2 === 0 ? bench.subjects : [...bench.subjects].reverse();
          for (const subject of order) {
            const run = await bench.run(subject, path, round === 0 ? WARM_UP : requests, concurrency);
            if (round > 0) runs.get(subject.name)?.push(run);
          }
        }
        const of = (name: string, figure: keyof Run): number[] =>
          (runs.get(name) ?? []).map((run) => run[figure]);
        say(`GET ${path}, ${concurrency} at once`);
        for (const { name } of bench.subjects) {
          say(
            `  ${name.padEnd(22)} ${median(of(name, 'milliseconds')).toFixed(3).padStart(7)} ms   ` +
              `CPU us: service ${whole(mean(of(name, 'service'))).padStart(5)}, database ${whole(mean(of(name, 'database'))).padStart(5)}`,
          );
        }
        const ratios = COMPARISONS.map(([what, one, other]) => {
          const others = of(other, 'milliseconds');
          // Of the same round: what else the machine does burdens both.
          const time = median(of(one, 'milliseconds').map((value, round) => value / (others[round] ?? 0)));
          const processor = mean(of(one, 'service')) / mean(of(other, 'service'));
          say(`  ${what.padEnd(37)} time ${time.toFixed(2)}   CPU of the service ${processor.toFixed(2)}`);
          return { what, time, processor };
        });
        say();
        cases.push({ path, concurrency, runs: Object.fromEntries(runs), ratios });
      }
    }
    const machine = { cores: cpus().length, model: cpus()[0]?.model, node: process.version };
    const report = { at: new Date().toISOString(), machine, requests, rounds, cases };
    mkdirSync(join('.data', 'reports'), { recursive: true });
    writeFileSync(join('.data', 'reports', 'bench-auth.json'), `${JSON.stringify(report, null, 2)}\n`);
  } finally {
    await bench.end();
  }
}

await main();
