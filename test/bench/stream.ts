// npm run bench -- stream: how fast events reach many who watch, against a bare `ws` server that sends a prepared string;
// what stalled clients cost the others; and how fast what was missed is told again. In the same run, in turns.
import { mkdirSync, writeFileSync } from 'node:fs';
import { cpus } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { parseArgs } from 'node:util';
import { WebSocket } from 'ws';
import { createDatabase } from '../support/database.js';
import { Mosquitto } from '../support/mosquitto.js';
import { Service } from '../support/service.js';
import { until } from '../support/until.js';
import { median, say, whole } from './figures.js';
import type { GeneratorOrder, GeneratorReport } from './generator.js';
import { BenchPostgres } from './postgres.js';
import { cpuSeconds, peakMemory, Script } from './processes.js';
import type { WatchersOrder, WatchersReport } from './stream-watchers.js';

const CLIENTS = 1_000;
const DEVICES = 1_000;
const STALLED = 100;
const RATE = 2_000;
/** So many that no client is ever given up for being behind: all of them fit into WS_MAX_BUFFER. */
const BURST = 2_000;
const MIB = 1_024 * 1_024;
const LONG_MS = 300_000;
/** A client that has said nothing is told of nothing for half a second. */
const FIRST_WORD_MS = 1_000;

/** What one part of one round gave. */
type Figures = Readonly<Record<string, number>>;

/** Someone whom watchers watch. */
interface Watched {
  readonly port: number;
  readonly clients: number;
  readonly path: string;
}

class StreamBench {
  private constructor(
    private readonly postgres: BenchPostgres,
    private readonly mosquitto: Mosquitto,
  ) {}

  static async prepare(): Promise<StreamBench> {
    const mosquitto = await Mosquitto.prepare(['max_queued_messages 2000000', 'max_inflight_messages 4000']);
    await mosquitto.start();
    return new StreamBench(await BenchPostgres.start(false), mosquitto);
  }

  async end(): Promise<void> {
    await this.mosquitto.remove();
    await this.postgres.remove();
  }

  /** (a) Everything to everyone: deliveries a second of the service, and of the reference. */
  async fanOut(): Promise<Figures> {
    let text = '';
    const service = await this.withService(async (served, token) => {
      const sample = new WebSocket(`ws://127.0.0.1:${served.port}/ws/mqtt?token=${token}&device_ids=bench_0`);
      sample.on('message', (data: Buffer) => (text = data.toString('utf8')));
      await until('a connection', () => text !== '');
      await this.publish({ messages: 1, rate: null });
      await until('an event', () => text.includes('device.data.received'));
      sample.terminate();
      return this.deliveries({ port: served.port, clients: CLIENTS, path: `/ws/mqtt?token=${token}` }, () =>
        this.publish({ messages: BURST, rate: null }).then(({ firstPublishedAt }) => firstPublishedAt),
      );
    });
    const bare = Script.start('bare-ws', [text]);
    try {
      const port = Number(await bare.line());
      const reference = await this.deliveries({ port, clients: CLIENTS, path: '/' }, () => {
        bare.say(String(BURST));
        return Promise.resolve(performance.timeOrigin + performance.now());
      });
      return { ...service, bare: reference['deliveries'] ?? 0, bytes: text.length };
    } finally {
      await bare.end();
    }
  }

  /** (b) One device each: publish to client, and what it costs the ingest. */
  async oneEach(messages: number): Promise<Figures> {
    const alone = await this.withService(async (service, _token, database) => {
      const before = cpuSeconds(service.pid);
      await this.publish({ messages, rate: RATE });
      const commits = await this.commits(database, messages);
      return { ...commits, cpu: ((cpuSeconds(service.pid) - before) * 1e6) / messages };
    });
    const watched = await this.withService(async (service, token, database) => {
      const watchers = await this.watch(
        { port: service.port, clients: CLIENTS, path: onePath(token) },
        0,
        true,
      );
      try {
        const before = cpuSeconds(service.pid);
        await this.publish({ messages, rate: RATE });
        const { p50, p99, closed } = await this.untilRead(watchers, messages);
        const cpu = ((cpuSeconds(service.pid) - before) * 1e6) / messages;
        return { p50, p99, closed, cpu, ...(await this.commits(database, messages)) };
      } finally {
        await watchers.end();
      }
    });
    const { commitP50 = 0, rate = 0, cpu = 0 } = alone;
    return { ...watched, aloneCommitP50: commitP50, aloneRate: rate, aloneCpu: cpu };
  }

  /** (c) A hundred who are to be told of everything and read nothing, beside those with a device each. */
  async stalled(messages: number): Promise<Figures> {
    const run = (isStalled: boolean): Promise<Figures> =>
      this.withService(async (service, token) => {
        const others = CLIENTS - STALLED;
        const all = `/ws/mqtt?token=${token}`;
        const crowd = await this.watch(
          { port: service.port, clients: STALLED, path: all },
          isStalled ? STALLED : 0,
          false,
        );
        const watchers = await this.watch(
          { port: service.port, clients: others, path: onePath(token) },
          0,
          true,
        );
        try {
          await sleep(FIRST_WORD_MS);
          await this.publish({ messages, rate: RATE });
          const { p50, p99 } = await this.untilRead(watchers, (messages / DEVICES) * others);
          return { p50, p99, closed: (await this.report(crowd)).closed };
        } finally {
          await watchers.end();
          await crowd.end();
        }
      });
    const reading = await run(false);
    const { p99 = 0, closed = 0, rss = 0 } = await run(true);
    return {
      readingP99: reading['p99'] ?? 0,
      stalledP99: p99,
      closed,
      rss: Math.max(rss, reading['rss'] ?? 0),
    };
  }

  /** (d) What was missed. */
  async replay(messages: number): Promise<Figures> {
    return this.withService(async (service, token, database) => {
      const { body } = await service.get('/health');
      if (body.status !== 'ok') throw new Error('not ready');
      const begun = await connectedId(service, token);
      await this.publish({ messages, rate: null });
      await this.commits(database, messages);
      const from = performance.now();
      const socket = new WebSocket(
        `ws://127.0.0.1:${service.port}/ws/mqtt?token=${token}&since=${begun}&events=device.data.received`,
      );
      let read = 0;
      let last = 0;
      socket.on('message', () => {
        read += 1;
        // Greeting and end of the replay are two more.
        if (read === messages + 1) last = performance.now();
      });
      await until('all of it', () => last > 0, LONG_MS);
      socket.terminate();
      return { events: messages / ((last - from) / 1_000) };
    });
  }

  private async withService(
    work: (service: Service, token: string, database: Ask) => Promise<Figures>,
  ): Promise<Figures> {
    const database = await createDatabase(this.postgres.url);
    const service = await Service.start({
      DATABASE_URL: database.url,
      ...this.mosquitto.env,
      MQTT_CLIENT_ID: `bench_stream_${Date.now()}`,
      MQTT_TOPIC_EVENTS: '',
      WS_MAX_CLIENTS_PER_TOKEN: String(CLIENTS + 1),
    });
    try {
      await database.query(
        `INSERT INTO medical_devices (device_id, patient_id, type)
         SELECT 'bench_' || i, i + 1, 'blood_pressure_monitor' FROM generate_series(0, ${DEVICES - 1}) i`,
      );
      // By then what is hot has been compiled; and later runs find the devices known.
      await this.publish({ messages: 5_000, rate: null });
      await until('the first to be stored', async () => {
        const [rows] = await database.query<{ count: string }>('SELECT count(*) FROM device_readings');
        return Number(rows?.count) === 15_000;
      });
      await database.query('TRUNCATE device_readings');
      const figures = await work(service, await service.token(), database);
      return { ...figures, rss: peakMemory(service.pid) / MIB };
    } finally {
      await service.remove();
      await database.drop();
    }
  }

  private async publish(load: {
    readonly messages: number;
    readonly rate: number | null;
  }): Promise<GeneratorReport> {
    const { port, username, password } = this.mosquitto;
    const order: GeneratorOrder = { port, username, password, connections: 4, devices: DEVICES, ...load };
    const generator = Script.start('generator', [JSON.stringify(order)]);
    try {
      return JSON.parse(await generator.line()) as GeneratorReport;
    } finally {
      await generator.end();
    }
  }

  private async watch(watched: Watched, stalled: number, timed: boolean): Promise<Script> {
    const order: WatchersOrder = { ...watched, stalled, timed };
    const watchers = Script.start('stream-watchers', [JSON.stringify(order)]);
    await watchers.line();
    return watchers;
  }

  private async report(watchers: Script): Promise<WatchersReport> {
    watchers.say('');
    return JSON.parse(await watchers.line()) as WatchersReport;
  }

  /** Waits until watchers have read so many. Asks seldom: each time they say what they have read since the last. */
  private async untilRead(watchers: Script, messages: number): Promise<WatchersReport> {
    await sleep(FIRST_WORD_MS);
    let report = await this.report(watchers);
    const first = report;
    await until(
      `${messages} messages`,
      async () => report.messages >= messages || ((report = await this.report(watchers)), false),
      LONG_MS,
    );
    return { ...first, messages: report.messages, at: report.at };
  }

  /** @param begin makes it go, and says when it did. */
  private async deliveries(watched: Watched, begin: () => Promise<number>): Promise<Figures> {
    const watchers = await this.watch(watched, 0, false);
    try {
      await sleep(FIRST_WORD_MS);
      const begun = await begin();
      let report = await this.report(watchers);
      await until(
        'all deliveries',
        async () => report.messages >= BURST * CLIENTS || ((report = await this.report(watchers)), false),
        LONG_MS,
      );
      return { deliveries: (BURST * CLIENTS) / ((report.at - begun) / 1_000), closed: report.closed };
    } finally {
      await watchers.end();
    }
  }

  /** Waits until all is stored. @returns publish to commit in milliseconds, and messages a second. */
  private async commits(database: Ask, messages: number): Promise<Figures> {
    await until(
      'all to be stored',
      async () => {
        const [rows] = await database.query<{ count: string }>('SELECT count(*) FROM device_readings');
        return Number(rows?.count) === messages * 3;
      },
      LONG_MS,
    );
    const [row] = await database.query<{ p50: string; first: string; last: string }>(
      `SELECT percentile_cont(0.5) WITHIN GROUP (ORDER BY extract(epoch FROM committed - timestamp)) * 1000 AS p50,
              extract(epoch FROM min(timestamp)) AS first, extract(epoch FROM max(committed)) AS last
       FROM (SELECT timestamp, pg_xact_commit_timestamp(xmin) AS committed FROM device_readings) readings`,
    );
    return { commitP50: Number(row?.p50), rate: messages / (Number(row?.last) - Number(row?.first)) };
  }
}

/** The database of a run. */
interface Ask {
  query<Row>(sql: string): Promise<Row[]>;
}

/** For a client of each device. */
function onePath(token: string): string {
  return `/ws/mqtt?token=${token}&device_ids=bench_{n}&events=device.data.received`;
}

async function connectedId(service: Service, token: string): Promise<string> {
  const client = await service.live(`?token=${token}`);
  const { data } = await client.hear('connected');
  client.end();
  return String(data['last_id']);
}

async function main(): Promise<void> {
  const { values } = parseArgs({
    options: {
      rounds: { type: 'string', default: '3' },
      seconds: { type: 'string', default: '10' },
      events: { type: 'string', default: '100000' },
      only: { type: 'string', default: '' },
    },
  });
  // As `npm start` runs it; source maps would cost memory that users do not pay.
  process.env['SERVICE_NODE_OPTIONS'] ??= '';
  const messages = Number(values.seconds) * RATE;
  const bench = await StreamBench.prepare();
  const runs: Record<string, Figures[]> = {};
  try {
    const parts: Record<string, () => Promise<Figures>> = {
      'fan-out': () => bench.fanOut(),
      'one each': () => bench.oneEach(messages),
      stalled: () => bench.stalled(messages),
      replay: () => bench.replay(Number(values.events)),
    };
    const names = Object.keys(parts).filter(
      (name) => values.only === '' || values.only.split(',').includes(name),
    );
    for (let round = 1; round <= Number(values.rounds); round += 1) {
      for (const name of names) {
        const figures = await parts[name]?.();
        if (!figures) continue;
        (runs[name] ??= []).push(figures);
        const told = Object.entries(figures).map(([what, value]) => `${what} ${value.toFixed(1)}`);
        say(`round ${round}  ${name.padEnd(8)} ${told.join(', ')}`);
      }
    }
    const middle = (part: string, figure: (figures: Figures) => number): number =>
      median((runs[part] ?? []).map(figure));
    const of =
      (name: string) =>
      (figures: Figures): number =>
        figures[name] ?? 0;
    say();
    const ratio = middle('fan-out', ({ deliveries = 0, bare = 1 }) => deliveries / bare);
    say(
      `(a) ${CLIENTS} clients, no filter: ${whole(middle('fan-out', of('deliveries')))} deliveries/s, bare ws ` +
        `${whole(middle('fan-out', of('bare')))}: ratio ${ratio.toFixed(2)}`,
    );
    const slowed = middle('one each', ({ rate = 0, aloneRate = 1 }) => 1 - rate / aloneRate);
    say(
      `(b) ${CLIENTS} clients with a device each, ${RATE} messages/s: publish to client p50 ` +
        `${middle('one each', of('p50')).toFixed(1)} ms, p99 ${middle('one each', of('p99')).toFixed(1)} ms; ` +
        `ingest slowed by ${(slowed * 100).toFixed(1)}%, CPU us a message ${middle('one each', of('cpu')).toFixed(0)} ` +
        `instead of ${middle('one each', of('aloneCpu')).toFixed(0)}`,
    );
    const change = middle('stalled', ({ stalledP99 = 0, readingP99 = 1 }) => stalledP99 / readingP99 - 1);
    say(
      `(c) ${STALLED} stalled among ${CLIENTS}: the others' p99 ${middle('stalled', of('stalledP99')).toFixed(1)} ms ` +
        `instead of ${middle('stalled', of('readingP99')).toFixed(1)} ms: ${(change * 100).toFixed(0)}%`,
    );
    say(`(d) replay of ${values.events} events: ${whole(middle('replay', of('events')))} events/s`);
    const peak = Math.max(...Object.values(runs).flatMap((each) => each.map(({ rss = 0 }) => rss)));
    say(`peak RSS ${whole(peak)} MiB`);
    mkdirSync(join('.data', 'reports'), { recursive: true });
    writeFileSync(
      join('.data', 'reports', 'bench-stream.json'),
      `${JSON.stringify(
        {
          at: new Date().toISOString(),
          machine: { cores: cpus().length, model: cpus()[0]?.model, node: process.version },
          runs,
        },
        null,
        2,
      )}\n`,
    );
  } finally {
    await bench.end();
  }
}

await main();
