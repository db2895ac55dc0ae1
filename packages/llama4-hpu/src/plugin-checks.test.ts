import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { coreModels, type LanguageModel, llama4, type ModelContext, upstreamContext } from '@graft/core-model';
import { LlmEngine } from '@graft/engine';
import { checkPlugin } from '@graft/registry/testing';
import { afterAll, describe, expect, test } from 'vitest';
import { withOtherWeights } from '../../../tests/fixtures/other-weights.ts';
import llama4Hpu from './plugin.ts';

const cacheDirectory = mkdtempSync(join(tmpdir(), 'graft-hpu-'));
const folders = [cacheDirectory];
afterAll(() => {
  for (const folder of folders) rmSync(folder, { recursive: true });
});

const architectures = ['Llama4ForCausalLM', 'Llama4ForConditionalGeneration'];
const emulated = new URL('./interpreter-hpu.fixture.ts', import.meta.url).href;

describe.each(['scout-tiny', 'maverick-tiny'])('on %s the testing kit finds', (name) => {
  const model = fileURLToPath(new URL(`../../../tests/parity/cases/${name}`, import.meta.url));
  const config = llama4.parseConfig(JSON.parse(readFileSync(join(model, 'config.json'), 'utf8')));

  test('both overrides to hold what they promise in every mode, and a reload to equal a fresh load', { timeout: 60_000 }, async () => {
    const otherModel = withOtherWeights(model);
    folders.push(otherModel);
    const { records } = await checkPlugin<ModelContext, LanguageModel, LlmEngine>(llama4Hpu, {
      needs: [coreModels],
      architectures,
      context: ({ architecture, platform, mode, build }) => ({
        ...upstreamContext(architecture, config, { platform, mode: mode!, maxModelLength: 64 }),
        build,
      }),
      load: () => undefined, // the post-load hook reads no values
      reload: (target) => {
        // The emulated platform has one mode, and these folders hold text only.
        if (target.architecture !== 'Llama4ForCausalLM' || target.mode !== 'compile') return null;
        return {
          checkpoints: [model, otherModel],
          load: (checkpoint) =>
            LlmEngine.start({ model: checkpoint, plugins: [emulated], platform: 'hpu', maxModelLength: 32, cacheDirectory }),
          reload: (engine, checkpoint) => engine.reloadWeights(checkpoint),
          outputs: logitsOf,
          close: (engine) => engine.close(),
        };
      },
    });
    const outcomes = records.map(({ architecture, mode, property, outcome }) => ({ architecture, mode, property, outcome }));
    for (const property of ['contract holds', 'init keeps the parameters', 'phases repeat', 'undo restores', 'copies share nothing']) {
      const expected = architectures.flatMap((architecture) =>
        ['compile', 'lazy', 'eager'].map((mode) => ({ architecture, mode, property, outcome: 'held' })),
      );
      expect(outcomes.filter((record) => record.property === property)).toEqual(expected);
    }
    expect(outcomes.filter(({ property, outcome }) => property === 'reload equals a fresh load' && outcome === 'held')).toEqual([
      { architecture: 'Llama4ForCausalLM', mode: 'compile', property: 'reload equals a fresh load', outcome: 'held' },
    ]);
  });
});

async function logitsOf(engine: LlmEngine): Promise<number[]> {
  const all: number[] = [];
  const prompt = { tokenIds: Array.from({ length: 20 }, (_, i) => (37 * i + 11) % 320) };
  const observer = { promptLogits: true, onLogits: (_position: number, logits: Float32Array) => void all.push(...logits) };
  for await (const _ of engine.generate({ prompt, sampling: { temperature: 0, ignoreEos: true, maxTokens: 2 } }, { observer })) {
    // The observer takes what is compared.
  }
  return all;
}
