// Shows that the fault suite bites: in a copy of the tree a scenario first passes, then a defect is planted that it is
// there to find, and it must fail in the way named. `npm run test:faults:bite`
import { spawnSync } from 'node:child_process';
import { cpSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { basename, join } from 'node:path';
import { ensureInstalled, ROOT } from './ensure.mjs';

const NOT_COPIED = new Set(['node_modules', 'coverage', '.git', '.data', '.env']);
const KEY = 'UNIQUE (device_id, timestamp, metric_type, value)';

/**
 * @typedef {object} Defect
 * @property {string} name
 * @property {string} scenario
 * @property {RegExp} finding what the failure must say
 * @property {[string, string, string][]} edits file, what stands there, what stands there instead
 */

/** @type {Defect[]} */
const DEFECTS = [
  {
    name: 'PUBACK on arrival instead of after the commit',
    scenario: 'PostgreSQL away, service killed',
    finding: /\+ +"lost": [1-9]/,
    edits: [
      [
        'libs/platform/src/mqtt/mqtt-transport.ts',
        'const delivery = new TakenDelivery(',
        'if (owed) this.window.settle(owed);\n    const delivery = new TakenDelivery(',
      ],
    ],
  },
  {
    name: 'no unique key on device_readings',
    scenario: 'messages delivered three times',
    finding: /\+ +"twice": [1-9]/,
    edits: [
      ['libs/platform/src/database/migrations/1764000000000-initial-schema.ts', KEY, 'CHECK (TRUE)'],
      ['libs/platform/src/database/migrations/1764100000000-compact-readings.ts', KEY, 'CHECK (TRUE)'],
      ['libs/readings/src/adapters/pg-reading-partitions.ts', KEY, 'CHECK (TRUE)'],
    ],
  },
  {
    name: 'subscribed at the first connection only',
    scenario: 'Mosquitto forgets its sessions',
    finding: /for the service to be ready/,
    edits: [
      [
        'libs/platform/src/mqtt/mqtt-consumer.ts',
        'this.subscribe(client);\n    });',
        'if (!this.hasSubscribed) this.subscribe(client);\n      this.hasSubscribed = true;\n    });',
      ],
      [
        'libs/platform/src/mqtt/mqtt-consumer.ts',
        'private stopped = false;',
        'private stopped = false;\n  private hasSubscribed = false;',
      ],
    ],
  },
];

ensureInstalled();
let failed = 0;
for (const defect of DEFECTS) {
  const folder = mkdtempSync(join(tmpdir(), 'mqtt-service-bite-'));
  try {
    // With their dates: a lock file that seems newer than the packages would have them installed anew, for ROOT as well.
    cpSync(ROOT, folder, {
      recursive: true,
      preserveTimestamps: true,
      filter: (path) => !NOT_COPIED.has(basename(path)),
    });
    symlinkSync(join(ROOT, 'node_modules'), join(folder, 'node_modules'), 'dir');
    const sound = run(folder, defect.scenario);
    report(sound.status === 0, `passes as it is: ${defect.scenario}`, sound.output);
    for (const [file, text, instead] of defect.edits) plant(join(folder, file), text, instead);
    const planted = run(folder, defect.scenario);
    const found = planted.status !== 0 && defect.finding.test(planted.output);
    report(found, `found: ${defect.name}`, planted.output);
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}
console.log(`${2 * DEFECTS.length - failed} passed, ${failed} failed`);
process.exit(failed === 0 ? 0 : 1);

function plant(file, text, instead) {
  const before = readFileSync(file, 'utf8');
  if (!before.includes(text)) throw new Error(`${file} no longer holds: ${text}`);
  writeFileSync(file, before.replaceAll(text, instead));
}

function run(folder, scenario) {
  const node = (...args) => spawnSync(process.execPath, args, { cwd: folder, encoding: 'utf8' });
  const built = node(join('scripts', 'build.mjs'));
  if (built.status !== 0) throw new Error(`it does not compile:\n${built.stderr}`);
  const jest = join('node_modules', 'jest', 'bin', 'jest.js');
  const suite = join('test', 'faults', 'faults.e2e.ts');
  const { status, stderr } = node(jest, suite, '--selectProjects', 'e2e', '--forceExit', '-t', scenario);
  // With every test skipped for want of a server, Jest is content; nothing has been shown then.
  return { status: /Tests: .*[1-9]\d* (passed|failed)/.test(stderr) ? status : 1, output: stderr };
}

function report(good, what, output) {
  console.log(`${good ? 'ok    ' : 'FAILED'} ${what}`);
  if (good) return;
  failed += 1;
  console.log(output.slice(-4_000));
}
