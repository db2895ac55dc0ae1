import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import {
  architecturesOf,
  coreModels,
  type LanguageModel,
  type Llama4Config,
  type Llama4ForCausalLM,
  Llama4ForConditionalGeneration,
  llama4,
  type ModelContext,
  upstreamContext,
} from '@graft/core-model';
import { captureLanguageModel, captureMultimodalModel, captureVisionModel, type StepShape } from '@graft/engine';
import { CaptureCache, type CapturedModel, verifyGraph } from '@graft/graph';
import { definePlugin } from '@graft/registry';
import { describe, expect, test } from 'vitest';
import { buildPatched, contextOf } from './layer-graphs.fixture.ts';
import llama4Hpu from './plugin.ts';

const cases = new URL('../../../tests/parity/cases/', import.meta.url);
const shapes: StepShape[] = [
  [1, 1],
  [1, 16],
  [4, 1],
  [2, 8],
  [2, 2],
].map(([batch, sequence]) => ({ batch: batch!, sequence: sequence! }));

/** A reference case, or a published model of 48 layers: its config, no weight. */
function contextFor(name: string, options: Record<string, unknown>): ModelContext<Llama4Config> {
  if (name === 'Maverick' || name === 'Scout') return contextOf(name, {}, options);
  const raw = JSON.parse(readFileSync(new URL(`${name}/config.json`, cases), 'utf8')) as unknown;
  const [architecture = ''] = architecturesOf(raw);
  return upstreamContext(architecture, llama4.parseConfig(raw, { where: name }), {
    platform: 'hpu',
    mode: 'compile',
    maxModelLength: 64,
    overrideOptions: options,
  });
}

type Variant = 'upstream' | 'branchFree false' | 'default';

async function build(
  name: string,
  variant: Variant,
): Promise<{ model: LanguageModel; context: ModelContext<Llama4Config>; forwards: () => number }> {
  const context = contextFor(name, variant === 'branchFree false' ? { branchFree: false } : {});
  const { architecture } = context;
  let forwards = 0;
  const counted = definePlugin({
    name: 'counted',
    overrides: [
      {
        of: architecture,
        platform: 'hpu',
        priority: 1,
        factory: async () => (Base) =>
          class extends (Base as typeof Llama4ForCausalLM) {
            override forward(...args: Parameters<Llama4ForCausalLM['forward']>) {
              forwards++;
              return super.forward(...args);
            }
          },
      },
    ],
  });
  const plugins = variant === 'upstream' ? [coreModels, counted] : [coreModels, llama4Hpu, counted];
  const { model } = await buildPatched(architecture, context, plugins);
  return { model, context, forwards: () => forwards };
}

/** All that a capture leaves behind, in the model and in the cache. Regions are named in the graph and told of once. */
function all({ graph, guards, outputs, cache }: CapturedModel): unknown {
  const named = graph.nodes.map((node) => (node.kind === 'op' ? node : { ...node, region: node.region.name }));
  const entries = cache.regions().map((region) => [region, cache.list(region)]);
  return { graph: { ...graph, nodes: named }, guards, outputs, entries, recompiles: cache.recompiles };
}

function expectSame<Shape>(capture: (cache: CaptureCache, shape: Shape) => CapturedModel, list: readonly Shape[]): void {
  const [specialised, direct] = [new CaptureCache({ isFrozen: true }), new CaptureCache()];
  for (const shape of list) {
    const captured = capture(specialised, shape);
    expect(all(captured)).toEqual(all(capture(direct, shape)));
    verifyGraph(captured.graph);
  }
  for (const region of specialised.regions()) for (const entry of specialised.list(region)) verifyGraph(entry.region.graph);
}

/** A quantised one captures what the same model does without. */
const isLlama4 = (name: string): boolean => {
  const file = new URL(`${name}/config.json`, cases);
  const config = existsSync(file) ? readFileSync(file, 'utf8') : '';
  return config.includes('"Llama4For') && !config.includes('quantization_config');
};
const names = [...readdirSync(fileURLToPath(cases)).filter(isLlama4).sort(), 'Maverick', 'Scout'];

describe.each(names)('the buckets of %s', (name) => {
  test.each<Variant>(['upstream', 'branchFree false', 'default'])(
    'are captured once for all, %s: graphs, guards, names and recompiles are those of captures at each shape',
    { timeout: 60_000 },
    async (variant) => {
      const { model, context, forwards } = await build(name, variant);
      const capture = (cache: CaptureCache, shape: StepShape) => captureLanguageModel(model, cache, shape);
      expectSame(capture, shapes);
      expect(forwards()).toBe(1 + shapes.length);
      model.setAuxHiddenStateLayers([1, 2]);
      expectSame(capture, [shapes[1]!]);
      if (!(model instanceof Llama4ForConditionalGeneration)) return;
      const before = forwards();
      const both = (cache: CaptureCache, [images, shape]: [boolean, StepShape]) =>
        images ? captureMultimodalModel(model, cache, context.config.hiddenSize, shape) : capture(cache, shape);
      expectSame(
        both,
        shapes.flatMap((shape): [boolean, StepShape][] => [
          [false, shape],
          [true, shape],
        ]),
      ); // they share the layers' graphs
      expect(forwards() - before).toBe(2 + 2 * shapes.length);
      if (context.config.vision)
        expectSame((cache, tiles: number) => captureVisionModel(model, cache, context.config.vision!, tiles), [1, 3]);
    },
  );
});
