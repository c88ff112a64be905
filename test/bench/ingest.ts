// npm run bench -- ingest: how fast measurements are taken in, against the database's own limit, the shortest script that
// loses nothing, and the framework's documented way; in the same run, in turns.
import { mkdirSync, writeFileSync } from 'node:fs';
import { cpus } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { median, say, whole } from './figures.js';
import { IngestBench, MIB, READINGS_PER_MESSAGE, type Run } from './ingest-bench.js';

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
