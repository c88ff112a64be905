// The rooms of README.md as rules. Specs stand beside their source and may use what they need for testing: they are
// bound by the doors between modules, not by the layers within one.

/** Which other modules a module may use. A new module begins here. */
const MAY_USE = {
  kernel: [],
  platform: ['kernel'],
  audit: ['kernel', 'platform'],
  devices: ['kernel', 'platform'],
  readings: ['kernel', 'platform', 'devices'],
  commands: ['kernel', 'platform', 'devices'],
  telemetry: ['kernel', 'platform', 'devices', 'readings'],
  webhooks: ['kernel', 'platform', 'devices', 'readings'],
};

const SPEC = '\\.(spec|fixture)\\.ts$';
const KERNEL_DOOR = '^libs/kernel/src/index\\.ts$';
// $1 is the module the importing file belongs to: its own door would lead it back to its adapters.
const OTHER_DOMAIN_DOOR = '^libs/(?!platform/|$1/)[^/]+/src/index\\.ts$';

/** Files of one layer, in any module. */
const layer = (name) => ({ path: `^libs/([^/]+)/src/${name}/`, pathNot: SPEC });

/** Layers of the importing file's own module. */
const own = (...names) => `^libs/$1/src/(${names.join('|')})/`;

const rule = (name, comment, from, to) => ({ name, comment, severity: 'error', from, to });

module.exports = {
  forbidden: [
    rule('no-cycles', 'Files that need each other are one file, or one too many.', {}, { circular: true }),
    rule(
      'resolvable',
      'An import no rule can place is an import no rule can judge.',
      {},
      { couldNotResolve: true, pathNot: '^(\\.\\./)+dist/' },
    ),

    rule(
      'domain-is-pure',
      "A domain knows itself, the kernel, and what other modules call their things: no package, not even Node's own.",
      layer('domain'),
      { pathNot: [own('domain'), KERNEL_DOOR, OTHER_DOMAIN_DOOR] },
    ),
    rule(
      'domain-borrows-types-only',
      "Another module's door opens on its adapters: a domain that imported a value there would load them all.",
      layer('domain'),
      { path: OTHER_DOMAIN_DOOR, pathNot: KERNEL_DOOR, dependencyTypesNot: ['type-only'] },
    ),
    rule('ports-are-promises', 'A port speaks of the domain and of no technology.', layer('ports'), {
      pathNot: [own('domain', 'ports'), KERNEL_DOOR, OTHER_DOMAIN_DOOR],
      dependencyTypesNot: ['core'],
    }),
    rule('ports-borrow-types-only', 'Node lends a port its types, such as Readable.', layer('ports'), {
      dependencyTypes: ['core'],
      dependencyTypesNot: ['type-only'],
    }),
    rule(
      'application-knows-no-technology',
      'Use cases reach the outside through ports; of Nest they take the decorators.',
      layer('application'),
      {
        pathNot: [
          own('domain', 'ports', 'application'),
          KERNEL_DOOR,
          OTHER_DOMAIN_DOOR,
          '(^|/)node_modules/@nestjs/common/',
        ],
        dependencyTypesNot: ['core'],
      },
    ),
    rule(
      'adapters-are-wired-by-modules',
      'Adapters are for the module file to wire and for the door to show.',
      { path: '^libs/', pathNot: ['/adapters/', '\\.module\\.ts$', '^libs/[^/]+/src/index\\.ts$', SPEC] },
      { path: '^libs/[^/]+/src/adapters/' },
    ),

    rule(
      'modules-by-their-door',
      "A module's inside is its own: others take what its index.ts offers.",
      { path: '^(libs/[^/]+|apps)/' },
      { path: '^libs/', pathNot: ['^$1/', '^libs/[^/]+/src/index\\.ts$'] },
    ),
    rule(
      'doors-by-their-name',
      'One way to write it: #devices, not ../../devices/src/index.js.',
      { path: '^(libs/[^/]+|apps)/' },
      { path: '^libs/[^/]+/src/index\\.ts$', pathNot: '^$1/', dependencyTypesNot: ['aliased'] },
    ),
    ...Object.entries(MAY_USE).map(([name, used]) =>
      rule(
        `direction-of-${name}`,
        'kernel <- platform <- audit; kernel <- devices <- readings <- telemetry; devices <- commands; readings <- webhooks.',
        { path: `^libs/${name}/` },
        { path: '^libs/', pathNot: `^libs/(${[name, ...used].join('|')})/` },
      ),
    ),
    rule(
      'direction-unknown',
      'A new module says at the top of this file what it may use.',
      { path: `^libs/(?!(${Object.keys(MAY_USE).join('|')})/)` },
      {},
    ),
    rule(
      'kernel-is-pure',
      'What every domain imports imports nothing.',
      { path: '^libs/kernel/', pathNot: SPEC },
      {
        pathNot: '^libs/kernel/',
      },
    ),
    rule('libs-know-no-app', 'Apps compose libs.', { path: '^libs/' }, { path: '^apps/' }),
    rule(
      'product-knows-no-test',
      'Sources import sources: no tests, no scripts, no build output.',
      { path: '^(apps|libs)/', pathNot: SPEC },
      { path: ['^(test|scripts|dist)/', SPEC] },
    ),
  ],
  options: {
    tsConfig: { fileName: 'tsconfig.json' },
    // Type imports couple modules too.
    tsPreCompilationDeps: true,
    doNotFollow: { path: ['(^|/)node_modules/', '^dist/'] },
    enhancedResolveOptions: {
      exportsFields: ['exports'],
      conditionNames: ['import', 'types', 'node', 'default'],
    },
  },
};
