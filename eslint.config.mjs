import js from '@eslint/js';
import { defineConfig } from 'eslint/config';
import tseslint from 'typescript-eslint';

const TYPESCRIPT = ['**/*.{ts,tsx,mts,cts}'];

const ENV_ADVICE = 'Only libs/platform/src/config reads the environment: inject Config.';

// Every way to the environment that has a name of its own.
const NO_ENVIRONMENT = {
  'no-restricted-properties': ['error', { object: 'process', property: 'env', message: ENV_ADVICE }],
  'no-restricted-syntax': [
    'error',
    {
      selector: "MemberExpression[property.name='env'][object.property.name='process']",
      message: ENV_ADVICE,
    },
  ],
  'no-restricted-imports': [
    'error',
    {
      paths: ['process', 'node:process'].map((name) => ({
        name,
        importNames: ['env', 'default'],
        message: ENV_ADVICE,
      })),
    },
  ],
};

export default defineConfig(
  { ignores: ['**/dist/', '**/coverage/', '.data/'] },
  { linterOptions: { reportUnusedDisableDirectives: 'error', reportUnusedInlineConfigs: 'error' } },
  js.configs.recommended,
  {
    files: ['**/*.{js,mjs,cjs}'],
    // tsc does not look at these files, so no-undef does: against the globals of the Node that runs it.
    languageOptions: {
      globals: Object.fromEntries(Object.getOwnPropertyNames(globalThis).map((name) => [name, 'readonly'])),
    },
  },
  { files: ['**/*.cjs'], languageOptions: { sourceType: 'commonjs' } },
  {
    files: TYPESCRIPT,
    extends: [tseslint.configs.strictTypeChecked],
    languageOptions: { parserOptions: { projectService: true, tsconfigRootDir: import.meta.dirname } },
    rules: {
      // Nest finds what to inject by the constructor's parameter types at run time (emitDecoratorMetadata): a class
      // behind `import type` would be Object there. With these compiler options the rule lets such imports be.
      '@typescript-eslint/consistent-type-imports': ['error', { fixStyle: 'inline-type-imports' }],
      '@typescript-eslint/no-extraneous-class': ['error', { allowWithDecorator: true }],
      '@typescript-eslint/no-confusing-void-expression': ['error', { ignoreArrowShorthand: true }],
      '@typescript-eslint/restrict-template-expressions': ['error', { allowNumber: true }],
      // DTOs and rows are classes only because Swagger, class-validator and TypeORM read decorators; Config is one
      // because it is an injection token. Plain objects are what they are meant to be filled with.
      '@typescript-eslint/no-unsafe-class-instance-assignment': 'off',
      // The enums in sight are packages' ambient const enums, whose members isolatedModules forbids to name.
      '@typescript-eslint/no-unsafe-enum-assignment': 'off',
      'prefer-const': ['error', { ignoreReadBeforeAssign: true }],
    },
  },
  {
    // Rows and DTOs again: without methods, a spread loses nothing.
    files: ['libs/*/src/adapters/**/*.ts'],
    rules: { '@typescript-eslint/no-misused-spread': 'off' },
  },
  {
    // @EventPattern('x') with typed parameters fails with TS1241; the explicit type argument mends it.
    files: ['**/*.mqtt.ts'],
    rules: { '@typescript-eslint/no-unnecessary-type-arguments': 'off' },
  },
  {
    rules: NO_ENVIRONMENT,
    ignores: ['libs/platform/src/config/**', 'test/**', 'scripts/**'],
  },
  { files: ['apps/**', 'libs/**'], rules: { 'no-console': 'error' } },
  {
    // Answers and payloads come back as JSON, flags are set by callbacks the analysis does not follow, example clients
    // are run as they are printed, and texts are taken apart that hold ASCII only. A test that is wrong in such a thing
    // fails by itself.
    files: ['test/**', '**/*.spec.ts'],
    rules: {
      '@typescript-eslint/no-implied-eval': 'off',
      '@typescript-eslint/no-misused-spread': 'off',
      '@typescript-eslint/no-unnecessary-condition': 'off',
      '@typescript-eslint/no-unsafe-argument': 'off',
      '@typescript-eslint/no-unsafe-assignment': 'off',
      '@typescript-eslint/no-unsafe-call': 'off',
      '@typescript-eslint/no-unsafe-member-access': 'off',
      '@typescript-eslint/no-unsafe-return': 'off',
    },
  },
);
