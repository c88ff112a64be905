// Shows that the static checks bite: in copies of the tree, each check first passes, then one violation of every rule
// is planted and must be reported under that rule's name. `npm run lint:planted`
import { spawn } from 'node:child_process';
import {
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  readdirSync,
  realpathSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { createRequire } from 'node:module';
import { tmpdir } from 'node:os';
import { basename, dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const ROOT = dirname(dirname(fileURLToPath(import.meta.url)));
const NOT_COPIED = new Set(['node_modules', 'dist', 'coverage', '.git', '.data', '.env']);
const PROGRAMS = {
  depcruise: 'dependency-cruiser/bin/dependency-cruise.mjs',
  eslint: 'eslint/bin/eslint.js',
  knip: 'knip/bin/knip.js',
  prettier: 'prettier/bin/prettier.cjs',
};
const { scripts } = JSON.parse(readFileSync(join(ROOT, 'package.json'), 'utf8'));

/**
 * A violation: `edit` makes the file's text, `what` says it in the report, `besides` are files it needs.
 * @typedef {object} Plant
 * @property {string} rule
 * @property {string} file
 * @property {string} what
 * @property {string} [name] what knip calls it, where that is not the file
 * @property {(text: string) => string} edit
 * @property {Record<string, string>} [besides]
 */

/** @returns {Plant} a file whose one import breaks the rule. */
const imports = (rule, folder, target, besides = {}) => ({
  rule,
  file: nextFile(folder),
  what: `imports ${target}`,
  edit: () => `import '${target}';\n`,
  besides,
});

/** @returns {Plant} a file whose code breaks the rule. */
const code = (rule, folder, text, extension = 'ts') => ({
  rule,
  file: nextFile(folder, extension),
  what: text,
  edit: () => `${text}\n`,
});

/** @returns {Plant} a name that breaks the rule, added to a file that is there. */
const appended = (rule, file, name, text) => ({
  rule,
  file,
  name,
  what: text,
  edit: (before) => `${before}${text}\n`,
});

let planted = 0;
function nextFile(folder, extension = 'ts') {
  planted += 1;
  return `${folder && `${folder}/`}planted-${planted}.${extension}`;
}

function boundaryPlants() {
  const from = (rule, folder, targets) => targets.map((target) => imports(rule, folder, target));
  const cycle = nextFile('libs/devices/src/adapters');
  return [
    {
      ...imports('no-cycles', 'libs/devices/src/adapters', `./${basename(cycle, '.ts')}.js`),
      file: 'libs/devices/src/adapters/planted-cycle.ts',
      besides: { [cycle]: "import './planted-cycle.js';\n" },
    },
    imports('resolvable', 'libs/devices/src/adapters', './nowhere.js'),
    ...from('domain-is-pure', 'libs/readings/src/domain', [
      'typeorm',
      '@nestjs/common',
      'node:crypto',
      '#platform',
      '#readings',
      '../ports/reading.repository.js',
      '../application/reading-history.js',
      '../adapters/reading.dto.js',
    ]),
    imports('domain-borrows-types-only', 'libs/readings/src/domain', '#devices'),
    ...from('ports-are-promises', 'libs/readings/src/ports', [
      'typeorm',
      '@nestjs/common',
      '#platform',
      '#readings',
      '../application/reading-history.js',
      '../adapters/reading.dto.js',
    ]),
    imports('ports-borrow-types-only', 'libs/readings/src/ports', 'node:stream'),
    ...from('application-knows-no-technology', 'libs/readings/src/application', [
      'typeorm',
      'pg',
      'mqtt',
      'ws',
      'express',
      '@nestjs/core',
      '@nestjs/microservices',
      '#platform',
      '#readings',
      '../adapters/reading.dto.js',
      '../readings.module.js',
    ]),
    imports('adapters-are-wired-by-modules', 'libs/readings/src', './adapters/reading.dto.js'),
    imports('adapters-are-wired-by-modules', 'libs/readings/src/application', '../adapters/reading.dto.js'),
    imports('modules-by-their-door', 'libs/readings/src/adapters', '../../../devices/src/domain/device.js'),
    imports('modules-by-their-door', 'apps/mqtt-service/src', '../../../libs/devices/src/domain/device.js'),
    imports('doors-by-their-name', 'libs/readings/src/adapters', '../../../devices/src/index.js'),
    imports('doors-by-their-name', 'apps/mqtt-service/src', '../../../libs/devices/src/index.js'),
    ...from('direction-of-kernel', 'libs/kernel/src', ['#platform', '#devices']),
    ...from('direction-of-platform', 'libs/platform/src', [
      '#devices',
      '#readings',
      '#commands',
      '#telemetry',
      '#webhooks',
    ]),
    ...from('direction-of-audit', 'libs/audit/src/adapters', ['#devices', '#telemetry']),
    ...from('direction-of-devices', 'libs/devices/src/adapters', ['#readings', '#commands', '#telemetry']),
    ...from('direction-of-readings', 'libs/readings/src/adapters', ['#commands', '#telemetry']),
    ...from('direction-of-commands', 'libs/commands/src/adapters', ['#readings', '#telemetry']),
    ...from('direction-of-telemetry', 'libs/telemetry/src/adapters', ['#commands', '#webhooks']),
    ...from('direction-of-webhooks', 'libs/webhooks/src/adapters', ['#commands', '#telemetry']),
    imports('direction-unknown', 'libs/planted/src', '#kernel'),
    ...from('kernel-is-pure', 'libs/kernel/src', ['rxjs', 'node:crypto']),
    imports('libs-know-no-app', 'libs/devices/src/adapters', '../../../../apps/mqtt-service/src/version.js'),
    ...['test', 'scripts', 'dist'].map((folder) =>
      imports('product-knows-no-test', 'libs/devices/src/adapters', `../../../../${folder}/planted.js`, {
        [`${folder}/planted.js`]: '',
      }),
    ),
    imports('product-knows-no-test', 'libs/devices/src/adapters', './planted.spec.js', {
      'libs/devices/src/adapters/planted.spec.ts': 'export {};\n',
    }),
  ];
}

function codePlants() {
  const lib = 'libs/devices/src/adapters';
  const app = 'apps/mqtt-service/src';
  return [
    ...[lib, app].map((folder) =>
      code('no-restricted-properties', folder, "export const home = process.env['HOME'];"),
    ),
    code('no-restricted-properties', '', 'export const { HOME } = process.env;', 'mjs'),
    code('no-restricted-properties', lib, 'export const { env } = process;'),
    code('no-restricted-syntax', lib, "export const home = globalThis.process.env['HOME'];"),
    code('no-restricted-imports', lib, "export { env } from 'node:process';"),
    code('@typescript-eslint/no-floating-promises', lib, 'Promise.resolve(1);'),
    code('@typescript-eslint/no-floating-promises', 'test', 'Promise.resolve(1);'),
    code('@typescript-eslint/no-misused-promises', lib, 'setTimeout(async () => Promise.resolve(), 1);'),
    code('@typescript-eslint/no-explicit-any', lib, 'export const leak = (value: any): unknown => value;'),
    code('@typescript-eslint/no-explicit-any', 'test', 'export const leak = (value: any): unknown => value;'),
    code('@typescript-eslint/no-unsafe-assignment', lib, "export const leak = JSON.parse('1');"),
    code(
      '@typescript-eslint/no-unsafe-member-access',
      lib,
      "export const leak = String(JSON.parse('{}').a);",
    ),
    code('@typescript-eslint/no-unsafe-call', lib, "JSON.parse('1')();"),
    code('@typescript-eslint/no-unsafe-return', lib, "export const leak = (): number => JSON.parse('1');"),
    code('@typescript-eslint/no-unsafe-argument', lib, "setTimeout(JSON.parse('1'), 1);"),
    code(
      '@typescript-eslint/consistent-type-imports',
      lib,
      "import { Clock } from '#kernel'; export type Time = Clock;",
    ),
    ...[lib, app].map((folder) => code('no-console', folder, "console.log('x');")),
    code('no-undef', 'scripts', 'export const nothing = undeclared;', 'mjs'),
  ];
}

const CHECKS = [
  {
    tool: 'depcruise',
    script: 'lint:boundaries',
    plants: boundaryPlants(),
    arguments: (script) => [...script, '--output-type', 'err'],
    // A cycle is reported where the tool enters it.
    reports: ({ rule, file, besides }, lines) =>
      [file, ...Object.keys(besides)].some((name) =>
        lines.some((line) => line.includes(` ${rule}: ${name} `)),
      ),
    ruleNames: () =>
      createRequire(import.meta.url)(join(ROOT, '.dependency-cruiser.cjs')).forbidden.map(({ name }) => name),
  },
  {
    tool: 'eslint',
    script: 'lint',
    plants: codePlants(),
    arguments: (_script, files) => ['--format', 'json', ...files],
    reports: ({ rule, file }, lines, folder) =>
      JSON.parse(lines.join('\n'))
        .find(({ filePath }) => filePath === join(folder, file))
        .messages.some(({ ruleId, severity }) => ruleId === rule && severity === 2),
  },
  {
    tool: 'knip',
    script: 'lint:unused',
    plants: [
      appended('exports', 'libs/kernel/src/duration.ts', 'planted1', 'export const planted1 = 1;'),
      appended('exports', 'libs/devices/src/index.ts', 'planted2', 'export const planted2 = 2;'),
      appended('types', 'libs/platform/src/mqtt/batcher.ts', 'Planted3', 'export type Planted3 = 3;'),
      {
        rule: 'dependencies',
        file: 'package.json',
        name: 'planted4',
        what: 'a dependency nobody imports',
        edit: (text) => text.replace('"dependencies": {', '"dependencies": {\n"planted4": "1.0.0",'),
      },
      code('files', 'libs/devices/src/domain', 'export {};'),
    ],
    arguments: () => ['--reporter', 'json'],
    reports: ({ rule, file, name = file }, lines) =>
      JSON.parse(lines.join('\n')).issues.some(
        (issue) => issue.file === file && issue[rule]?.some((found) => found.name === name),
      ),
  },
  {
    tool: 'prettier',
    script: 'lint:format',
    plants: [
      code('format', 'libs/devices/src/domain', 'export   const a="b"'),
      code('format', 'test', 'export   const a="b"', 'mjs'),
    ],
    arguments: (_script, files) => ['--check', ...files],
    reports: ({ file }, lines) => lines.some((line) => line.endsWith(` ${file}`)),
  },
];

/** A copy of the tree to plant in: the copies are apart, so that no check sees what is meant for another. */
function copyTree(folder) {
  mkdirSync(folder);
  for (const name of readdirSync(ROOT)) {
    if (NOT_COPIED.has(name)) continue;
    cpSync(join(ROOT, name), join(folder, name), {
      recursive: true,
      filter: (path) => !NOT_COPIED.has(basename(path)),
    });
  }
  symlinkSync(join(ROOT, 'node_modules'), join(folder, 'node_modules'), 'junction');
  return folder;
}

function plant(folder, { file, edit, besides = {} }) {
  const path = join(folder, file);
  write(path, edit(existsSync(path) ? readFileSync(path, 'utf8') : ''));
  for (const [name, text] of Object.entries(besides)) write(join(folder, name), text);
}

function write(path, text) {
  mkdirSync(dirname(path), { recursive: true });
  writeFileSync(path, text);
}

function run(tool, args, cwd) {
  return new Promise((resolve, reject) => {
    const child = spawn(process.execPath, [join(ROOT, 'node_modules', PROGRAMS[tool]), ...args], {
      cwd,
      env: { ...process.env, NO_COLOR: '1', FORCE_COLOR: '0' },
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    let output = '';
    let errors = '';
    child.stdout.setEncoding('utf8').on('data', (text) => (output += text));
    child.stderr.setEncoding('utf8').on('data', (text) => (errors += text));
    child.on('error', reject);
    child.on('close', (status) => resolve({ status, output, errors }));
  });
}

/** @returns {Promise<number>} what it missed. */
async function check(base, { tool, script, plants, arguments: argumentsFor, reports, ruleNames }) {
  const folder = copyTree(join(base, tool));
  const own = scripts[script].split(' ').slice(1);
  const clean = await run(tool, own, folder);
  if (clean.status !== 0) {
    say(`FAILED  ${tool} on the tree as it is\n${clean.output}${clean.errors}`);
    return plants.length;
  }
  say(`clean   ${tool}`);

  for (const each of plants) plant(folder, each);
  const files = plants.map(({ file }) => file);
  const { status, output, errors } = await run(tool, argumentsFor(own, files), folder);
  // Prettier names files on stderr, the others on stdout.
  const lines = `${output}${tool === 'prettier' ? errors : ''}`.split('\n');
  let missed = 0;
  for (const each of plants) {
    let caught = false;
    try {
      caught = status !== 0 && reports(each, lines, folder);
    } catch {
      // A tool that breaks down answers with something else than a report: shown below.
    }
    if (!caught) missed += 1;
    say(`${caught ? 'caught' : 'MISSED'}  ${tool} ${each.rule}  ${each.file}: ${each.what}`);
  }
  if (missed > 0) say(errors);
  for (const name of ruleNames?.() ?? []) {
    if (plants.some(({ rule }) => rule === name)) continue;
    missed += 1;
    say(`MISSED  ${tool} ${name}  no violation of it is planted`);
  }
  return missed;
}

function say(line) {
  process.stdout.write(`${line}\n`);
}

const begun = performance.now();
const base = realpathSync(mkdtempSync(join(tmpdir(), 'check-boundaries-')));
process.on('exit', () => rmSync(base, { recursive: true, force: true }));
for (const signal of ['SIGINT', 'SIGTERM']) process.on(signal, () => process.exit(1));

const missed = (await Promise.all(CHECKS.map((each) => check(base, each)))).reduce((a, b) => a + b, 0);
const total = CHECKS.reduce((sum, { plants }) => sum + plants.length, 0);
const seconds = ((performance.now() - begun) / 1_000).toFixed(0);
say(
  missed === 0
    ? `all ${total} planted violations caught in ${seconds} s`
    : `${missed} not caught (${seconds} s)`,
);
process.exitCode = missed === 0 ? 0 : 1;
