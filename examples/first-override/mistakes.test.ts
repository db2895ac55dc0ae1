import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { LlmEngine } from '@graft/engine';
import { afterAll, expect, test } from 'vitest';
import { here, model } from './continue-prompt.fixture.ts';

const cacheDirectory = mkdtempSync(join(tmpdir(), 'graft-mistakes-'));
afterAll(() => rmSync(cacheDirectory, { recursive: true }));

interface Mistake {
  name: string;
  plugins: string[];
  platform?: string;
  code: string;
  /** Names and files that the error's text must give, so that one finds the mistake. */
  pointsAt: string[];
}

const mistakes: Mistake[] = [
  {
    name: 'a wrong base',
    plugins: ['wrong-base.ts'],
    code: 'GRAFT_OVERRIDE_BASE',
    pointsAt: ['WrongBase', 'extends Llama4ForCausalLM', 'mistakes/wrong-base.ts'],
  },
  {
    name: 'a renamed parameter',
    plugins: ['renamed-parameter.ts'],
    code: 'GRAFT_HOOK_CHANGED_PARAMETERS',
    pointsAt: ['"model.norm.weight" was renamed to "model.final_norm.weight"', 'RenamedParameter.renameNorm', 'rename in postLoad'],
  },
  {
    name: 'a missing token',
    plugins: ['missing-token.ts'],
    platform: 'npu',
    code: 'GRAFT_SERVICE_NOT_BOUND',
    pointsAt: ['Nothing binds KernelCache', 'needed for Backend of plugin "missing-token"', 'mistakes/missing-token.ts', 'bind()'],
  },
  {
    name: 'two plugins',
    plugins: ['../plugin.ts', 'second-override.ts'],
    code: 'GRAFT_REGISTRATION_CONFLICT',
    pointsAt: [
      'Llama4ForCausalLM',
      '"first-override"',
      'first-override/plugin.ts',
      '"second-override"',
      'mistakes/second-override.ts',
      'priority',
    ],
  },
  {
    name: 'a typo in the name',
    plugins: ['typo-in-the-name.ts'],
    code: 'GRAFT_OVERRIDE_WITHOUT_UPSTREAM',
    pointsAt: ['Llama4ForCausalLLM', 'nearest: "Llama4ForCausalLM"', 'mistakes/typo-in-the-name.ts'],
  },
  {
    name: 'a hook in the wrong phase',
    plugins: ['wrong-phase.ts'],
    code: 'GRAFT_HOOK_FAILED',
    pointsAt: ['phase init', 'WrongPhase.measureNorm', 'has no values yet', 'a hook reads values in phase postLoad'],
  },
  {
    name: 'a broken contract',
    plugins: ['broken-contract.ts'],
    code: 'GRAFT_CONTRACT_BROKEN',
    pointsAt: ['"computeLogit"', '"computeLogits"', '"model.final_norm.weight"', '"model.norm.weight"', 'mistakes/broken-contract.ts'],
  },
  {
    name: 'an async bind that rejects',
    plugins: ['rejecting-bind.ts'],
    code: 'GRAFT_PLUGIN_FAILED',
    pointsAt: ['bind threw', 'libnpu.so is not installed', 'mistakes/rejecting-bind.ts'],
  },
  {
    name: 'a detector that throws',
    plugins: ['throwing-detector.ts'],
    platform: 'npu',
    code: 'GRAFT_PLATFORM_UNAVAILABLE',
    pointsAt: ['"npu"', 'cannot read /sys/class/npu'],
  },
  {
    name: 'a plugin without a name',
    plugins: ['without-a-name.ts'],
    code: 'GRAFT_PLUGIN_INVALID',
    pointsAt: ['name: ', 'a plugin without a name', 'mistakes/without-a-name.ts'],
  },
];

test.each(mistakes.map((mistake) => [mistake.name, mistake] as const))('%s ends in an error that points at it', async (_name, mistake) => {
  const { plugins, platform, code, pointsAt } = mistake;
  const start = LlmEngine.start({
    model,
    app: here,
    plugins: ['./interpreter-cpu.ts', ...plugins.map((file) => `./${join('mistakes', file)}`)],
    cacheDirectory,
    ...(platform !== undefined && { platform }),
  });
  const error: unknown = await start.then(
    (engine) => engine.close(),
    (thrown: unknown) => thrown,
  );
  expect(error).toMatchObject({ code });
  const text = String(error);
  expect(pointsAt.filter((name) => !text.includes(name)).map((name) => `${name} is not in: ${text}`)).toEqual([]);
});

test('the ten mistakes are ten', () => {
  expect(new Set(mistakes.map(({ name }) => name)).size).toBe(10);
});
