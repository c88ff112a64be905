import { mkdirSync, writeFileSync } from 'node:fs';
import { dirname } from 'node:path';
import { Mosquitto } from '../support/mosquitto.js';
import { installedPostgresVersions, PostgresServer } from '../support/postgres-server.js';
import { randomFrom } from '../support/random.js';
import { SCENARIOS } from './scenarios.js';
import { Stage, type Verdict } from './stage.js';

/** FAULTS=full: every fault as often as `npm run test:faults` has it. Else the quick set. */
const SET = process.env['FAULTS'] === 'full' ? 'full' : 'quick';
const SEED = Number(process.env['FAULTS_SEED'] ?? Date.now() % 1_000_000);
const REPORT = process.env['FAULTS_REPORT'];
const TIMEOUT_MS = 900_000;

const [version] = installedPostgresVersions();
const possible = Mosquitto.installed && version !== undefined;
if (!possible) process.stderr.write('Faults not tested: Mosquitto or PostgreSQL is not installed\n');

(possible ? describe : describe.skip)(`under faults (seed ${SEED})`, () => {
  let postgres: PostgresServer;
  let mosquitto: Mosquitto;
  let stage: Stage;
  const report: Record<string, unknown>[] = [];

  beforeAll(async () => {
    [postgres, mosquitto] = await Promise.all([
      PostgresServer.start(version ?? ''),
      Mosquitto.prepare(['autosave_interval 10']),
    ]);
    stage = await Stage.build(postgres, mosquitto);
  });
  afterAll(async () => {
    await stage.strike();
    await Promise.all([postgres.remove(), mosquitto.remove()]);
    if (REPORT === undefined) return;
    mkdirSync(dirname(REPORT), { recursive: true });
    writeFileSync(REPORT, `${JSON.stringify({ set: SET, seed: SEED, scenarios: report }, null, 2)}\n`);
  });

  it.each(SCENARIOS.filter(({ rounds }) => rounds[SET] > 0))(
    '$name: nothing is lost, nothing is stored twice',
    async ({ name, rounds, unit = 'times', measured, run }) => {
      const begun = performance.now();
      let verdict: Verdict;
      try {
        await run(stage, rounds[SET], randomFrom(SEED));
        verdict = await stage.verdict();
      } catch (error) {
        throw new Error(`${String(error)}\n${stage.service.log.slice(-4_000)}`, { cause: error });
      }
      const seconds = Math.round((performance.now() - begun) / 1_000);
      report.push({
        name,
        rounds: `${rounds[SET]} ${unit}`,
        ...verdict,
        seconds,
        measured: measured ?? false,
      });
      expect(verdict.acknowledged).toBeGreaterThan(0);
      if (!measured) expect(verdict).toMatchObject({ lost: 0, twice: 0, mixed: 0, untold: 0 });
    },
    TIMEOUT_MS,
  );
});
