import { readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { float32Policy } from '@graft/core-model';
import { type Backend, InterpreterBackend } from '@graft/graph';
import { definePlugin } from '@graft/registry';
import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import type { BackendCandidate } from './backend-choice.ts';
import { caseFolder, failureOf, generateIds, promptOf, request, root, startTiny, temporaryFolder } from './engine.fixture.ts';
import type { LoadProgress } from './engine.ts';
import { explainArchitecture } from './explain.ts';
import { Backends } from './tokens.ts';

beforeEach(() => void vi.stubEnv('CI', '')); // there nothing is measured
afterEach(() => void vi.unstubAllEnvs());

/** Cannot run any model. */
class Broken implements Backend {
  readonly name = 'broken';
  async compile(): Promise<never> {
    throw new Error('no memory of this kind');
  }
}

const candidate = (name: string, more: Partial<BackendCandidate> = {}): BackendCandidate => ({
  name,
  version: () => '1',
  weightPolicy: float32Policy,
  load: async () => InterpreterBackend,
  ...more,
});
const plain = candidate('plain');
const broken = candidate('broken', { load: async () => Broken });
const missing = candidate('missing', {
  version() {
    throw new Error('its library is not installed');
  },
});

const plugin = (...candidates: BackendCandidate[]) =>
  definePlugin({
    name: 'two',
    platforms: [{ name: 'two', modes: ['full'], detect: () => 'device' }],
    bind(bind) {
      for (const one of candidates) bind.many(Backends).toConstantValue(one);
    },
  });

const measurementIn = (cacheDirectory: string): string => {
  const folder = join(cacheDirectory, 'backends');
  return join(folder, readdirSync(folder).find((name) => name.endsWith('.json'))!);
};

async function start(candidates: BackendCandidate[], more: object = {}) {
  const steps: LoadProgress['step'][] = [];
  const engine = await startTiny(
    { plugins: [], platform: 'two', maxModelLength: 16, ...more },
    { pluginsInCode: [plugin(...candidates)], onProgress: ({ step }) => void steps.push(step) },
  );
  return { engine, measured: steps.includes('measure'), ...engine.info.backend };
}

test('a platform with several backends tries each with the model; the choice is kept, explained and used again', async () => {
  const cacheDirectory = temporaryFolder();
  const other = candidate('other');
  const first = await start([plain, other], { cacheDirectory });
  expect(first.measured).toBe(true);
  expect(first.reason).toMatch(/^prefill \d+\.\dx, decode \d+\.\dx of (plain|other), measured on \d{4}-\d\d-\d\d \(.+\)$/);
  expect(await generateIds(first.engine, request(promptOf(9)))).toHaveLength(6);

  const file = measurementIn(cacheDirectory);
  writeFileSync(file, readFileSync(file, 'utf8').replace('"busy":true', '"busy":false')); // whatever else runs beside this test
  const again = await start([plain, other], { cacheDirectory });
  expect(again).toMatchObject({ measured: false, name: first.name });

  const explained = await explainArchitecture(
    { app: root, plugins: [], platform: 'two', model: caseFolder('dense-tiny'), weights: 'float32', cacheDirectory },
    { pluginsInCode: [plugin(plain, other)] },
  );
  expect(explained.record.backend).toEqual({ name: first.name, reason: again.reason });
  expect(explained.text).toContain(`backend "${first.name}": ${again.reason}`);

  const newer = await start([plain, candidate('other', { version: () => '2' })], { cacheDirectory });
  expect(newer.measured).toBe(true);
});

test('a backend that cannot run the model, and one whose library is missing, are named and do not serve', async () => {
  const { name, reason } = await start([broken, plain, missing], { cacheDirectory: temporaryFolder() });
  expect(name).toBe('plain');
  expect(reason).toMatch(/broken cannot run this model: .*no memory of this kind.*missing is not here: its library is not installed/s);
});

test('a platform option names the backend; nothing is measured', async () => {
  const { measured, name, reason } = await start([plain, candidate('other')], { platformOptions: { backend: 'other' } });
  expect([measured, name]).toEqual([false, 'other']);
  expect(reason).toContain('--platform-options');
  const wrong = await failureOf(start([plain, candidate('other')], { platformOptions: { backend: 'othr' } }));
  expect(wrong).toMatchObject({ code: 'GRAFT_ENGINE_CONFIG', what: expect.stringContaining('"othr"'), fix: 'write "other".' });
  const unknown = await failureOf(start([plain, candidate('other')], { platformOptions: { backend: 'plain', threds: 1 } }));
  expect(unknown).toMatchObject({ code: 'GRAFT_ENGINE_CONFIG', what: expect.stringContaining('"threds"') });
});

test('in continuous integration, and on a platform with one backend, the first serves unmeasured', async () => {
  const one = await start([plain]);
  expect([one.measured, one.name]).toEqual([false, 'plain']);
  vi.stubEnv('CI', 'true');
  const two = await start([plain, candidate('other')], { cacheDirectory: temporaryFolder() });
  expect([two.measured, two.name, two.reason]).toEqual([false, 'plain', 'the first backend, since this model was not measured']);
});

test('a damaged measurement is made again', async () => {
  const cacheDirectory = temporaryFolder();
  await start([plain, candidate('other')], { cacheDirectory });
  writeFileSync(measurementIn(cacheDirectory), '{"trials": 1}');
  expect((await start([plain, candidate('other')], { cacheDirectory })).measured).toBe(true);
});

test('all backends that fail: the error is the first one’s', async () => {
  const error = await failureOf(start([broken, candidate('other', { load: async () => Broken })], { cacheDirectory: temporaryFolder() }));
  expect(error.what).toContain('no memory of this kind');
});
