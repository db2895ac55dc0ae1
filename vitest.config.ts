import { defineConfig } from 'vitest/config';

const conditions = ['@graft/source', 'node']; // Vite and Node add `import` or `require`, by how a module is loaded
const shared = { resolve: { conditions }, ssr: { resolve: { conditions } } };
const expecting = { poll: { timeout: 10_000, interval: 5 } }; // a bound for a busy machine; the condition itself ends the wait
const tests = (name: string, include: string[], more: object = {}) => ({
  ...shared,
  test: { name, include, expect: expecting, env: { CI: 'true' }, ...more }, // no start measures its backends
});

export default defineConfig({
  ...shared,
  test: {
    projects: [
      tests('unit', ['packages/*/src/**/*.test.ts', 'tests/*.test.ts', 'examples/**/*.test.ts'], {
        exclude: ['**/*.native.test.ts', '**/*.e2e.test.ts', '**/node_modules/**', '**/dist/**'],
        // Files of one worker share modules, which are imported once and not seventy times: a test may rely on no other's state, and sets up its own.
        testTimeout: 20_000, // for a busy machine; no test takes a second on an idle one
        pool: 'threads',
        isolate: false,
        maxWorkers: '100%', // one less by default, which is half of a machine of two cores
      }),
      tests('native', ['packages/*/src/**/*.native.test.ts', 'examples/**/*.native.test.ts', 'tests/*.native.test.ts'], {
        testTimeout: 60_000,
        pool: 'forks',
        sequence: { groupOrder: 1 }, // after the unit tests: projects with different maxWorkers cannot run at once
      }),
      // By name only (`--project e2e`): these need Chromium and the real model, or pack and install every package.
      ...['e2e', 'packages']
        .filter((name) => process.argv.some((argument) => argument.endsWith(name)))
        .map((name) => tests(name, [`tests/${name}/**/*.${name}.test.ts`], { testTimeout: 180_000, hookTimeout: 300_000, pool: 'forks' })),
    ],
  },
});
