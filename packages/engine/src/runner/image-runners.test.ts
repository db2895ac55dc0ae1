import { openCheckpoint } from '@graft/core-model';
import type { HostTensor } from '@graft/graph';
import { afterEach, expect, onTestFinished, test } from 'vitest';
import { parseConfig } from '../config.ts';
import { createServices } from '../default-services.ts';
import { caseFolder, tinyConfig } from '../engine.fixture.ts';
import { loadModel } from '../load-model.ts';
import { readSource } from '../model-source.ts';
import { loadEnginePlugins } from '../start-engine.ts';
import { device, staticPlugin } from '../static-plugin.fixture.ts';
import type { ModelRunner, RunStep } from './model-runner.ts';

afterEach(() => device.reset());

const buckets = [8, 4, 1].map((query) => ({ batch: 1, query, context: 64 }));

/** vision-tiny's runner on a platform. */
async function runnerOn(platform: 'interpreter' | 'static'): Promise<ModelRunner> {
  const more = platform === 'static' ? { plugins: [staticPlugin], platformOptions: { buckets } } : {};
  const config = parseConfig(tinyConfig({ name: 'vision-tiny', platform, ...more }));
  const plugins = await loadEnginePlugins(config, {});
  const checkpoint = await openCheckpoint(caseFolder('vision-tiny'));
  onTestFinished(() => checkpoint[Symbol.dispose]());
  const source = await readSource(plugins.registry, checkpoint, undefined);
  const selected = await plugins.selectPlatform(platform);
  const container = createServices(plugins, selected, config);
  const { runner } = await loadModel({ plugins, platform: selected, container, source, config });
  onTestFinished(() => runner[Symbol.dispose]());
  return runner;
}

/** Two tiles that are no picture. */
function tiles(side: number): HostTensor {
  return { dtype: 'float32', dims: [2, 3, side, side], data: Float32Array.from({ length: 6 * side * side }, (_, i) => Math.sin(i)) };
}

const side = (
  await openCheckpoint(caseFolder('vision-tiny')).then((checkpoint) => {
    checkpoint[Symbol.dispose]();
    return checkpoint.config as { vision_config: { image_size: number } };
  })
).vision_config.image_size;

test('a model with images takes prompts with and without images, in static buckets and in any shape', async () => {
  const [any, bucketed] = await Promise.all([runnerOn('interpreter'), runnerOn('static')]);
  expect(device.added).toEqual(expect.arrayContaining(['1x8', '1x8 images', '1x1', '1x1 images', 'tile']));
  const features = await any.embedImages!(tiles(side));
  expect(await bucketed.embedImages!(tiles(side))).toEqual(features);
  const start = [5, 300, 300, 7, 300, 9, 300];
  const image = { firstSlot: 1, rows: [{ tokenIds: start, computed: 0, imageRows: [-1, 3, 0, -1, 1, -1, 7] }], imageFeatures: features };
  const steps: RunStep[] = [
    { ...image, logits: 'last' },
    { ...image, logits: 'all' },
    { firstSlot: 1, rows: [{ tokenIds: [11, 12, 13], computed: 7 }], logits: 'last' },
    { firstSlot: 1, rows: [{ tokenIds: [14], computed: 10 }], logits: 'last' },
  ];
  const logits: Float32Array[] = [];
  for (const step of steps) {
    const expected = (await any.run(step)).logits.slice();
    expect((await bucketed.run(step)).logits).toEqual(expected);
    logits.push(expected);
  }
  const plain = await any.run({ ...steps[0]!, rows: [{ tokenIds: start, computed: 0 }], firstSlot: 0 });
  expect(plain.logits).not.toEqual(logits[0]);
});

test('tiles take turns with steps: a step that comes between two tiles does not wait for the last tile', async () => {
  const runner = await runnerOn('static');
  device.reset();
  const features = runner.embedImages!(tiles(side));
  await runner.run({ firstSlot: 0, rows: [{ tokenIds: [3], computed: 0 }], logits: 'last' });
  await features;
  expect(device.runs.map(({ bucket }) => bucket)).toEqual(['tile', '1x1', 'tile']);
});
