// swc compiles to CommonJS, because Jest runs ESM only behind a Node flag; tsc checks the types.
const transform = {
  '^.+\\.[cm]?[jt]s$': [
    '@swc/jest',
    {
      jsc: {
        parser: { syntax: 'typescript', decorators: true },
        transform: { legacyDecorator: true, decoratorMetadata: true },
        target: 'es2022',
      },
      module: { type: 'commonjs' },
      sourceMaps: 'inline',
    },
  ],
};

const moduleNameMapper = {
  '^(\\.{1,2}/.*)\\.js$': '$1',
  '^#(kernel|platform|audit|devices|readings|commands|telemetry|webhooks)$': '<rootDir>/libs/$1/src/index.ts',
};

// Packages published as ESM only.
const transformIgnorePatterns = [
  '/node_modules/(?!(@nestjs|aedes|aedes-[^/]+|hashlru|jose|file-type|strtok3|token-types|uint8array-extras|@tokenizer|@borewit|typeorm)/)',
];

const common = {
  rootDir: import.meta.dirname,
  testEnvironment: 'node',
  transform,
  moduleNameMapper,
  transformIgnorePatterns,
};

export default {
  testTimeout: 120_000,
  maxWorkers: 2,
  projects: [
    { ...common, displayName: 'unit', testMatch: ['<rootDir>/{apps,libs}/**/*.spec.ts'] },
    {
      ...common,
      displayName: 'e2e',
      testMatch: ['<rootDir>/test/**/*.e2e.ts'],
      globalSetup: '<rootDir>/test/support/global-setup.mjs',
      globalTeardown: '<rootDir>/test/support/global-teardown.mjs',
    },
  ],
};
