import { fileURLToPath } from 'node:url';
import { aligned, captureModel, Dim } from '@graft/graph';
import { describe, expect, onTestFinished, test } from 'vitest';
import { type PipelineStage, upstreamContext } from '../context.ts';
import { ImagesNotBuiltError } from '../errors.ts';
import { llama4 } from '../families/llama4.ts';
import { expectClose, runModule } from '../run-module.fixture.ts';
import { type Checkpoint, openCheckpoint } from '../weights/checkpoint.ts';
import { openFileBytes } from '../weights/file-bytes.ts';
import { loadWeights } from '../weights/load-weights.ts';
import { readSafetensorsHeader } from '../weights/safetensors.ts';
import { float32Policy } from '../weights/weight-policy.ts';
import { Llama4ForConditionalGeneration } from './mllama4.ts';

const folder = fileURLToPath(new URL('../../../../tests/parity/cases/vision-tiny', import.meta.url));

async function open(): Promise<Checkpoint> {
  const checkpoint = await openCheckpoint(folder);
  onTestFinished(() => checkpoint[Symbol.dispose]());
  return checkpoint;
}

function build(checkpoint: Checkpoint, images: boolean, pipeline: PipelineStage = { rank: 0, size: 1 }): Llama4ForConditionalGeneration {
  const config = llama4.parseConfig(checkpoint.config, { images });
  return new Llama4ForConditionalGeneration(upstreamContext('Llama4ForConditionalGeneration', config, { maxModelLength: 64, pipeline }));
}

const rulesOf = ({ config }: Checkpoint, images: boolean) => llama4.weights(llama4.parseConfig(config, { images }));

const names = (model: Llama4ForConditionalGeneration): string[] => [...model.namedParameters()].map(([name]) => name);

function expectedOf(key: string): { dims: number[]; data: Float32Array } {
  const file = openFileBytes(`${folder}/expected.safetensors`);
  try {
    const tensor = readSafetensorsHeader(file).tensors.get(key)!;
    return { dims: [...tensor.shape], data: aligned(tensor.file.read(tensor.offset, tensor.byteLength), Float32Array) };
  } finally {
    file.close();
  }
}

describe('a model with images', () => {
  test('gives the image features of the published implementation', async () => {
    const checkpoint = await open();
    const model = build(checkpoint, true);
    await loadWeights(model, checkpoint, { policy: float32Policy, cacheDirectory: null, rules: rulesOf(checkpoint, true) });
    const features = expectedOf('image_features');
    const { y } = await runModule(model, { pixels: expectedOf('pixel_values') }, (module, { pixels }) => ({
      y: module.embedImages(pixels),
    }));
    expect(y!.dims).toEqual(features.dims);
    expectClose(y!.values, Array.from(features.data), 1e-4);
  });

  test('uses every tensor of its checkpoint; one for text alone leaves those for images', async () => {
    const checkpoint = await open();
    const extra = new Map(checkpoint.tensors);
    extra.set('vision_model.extra', [...checkpoint.tensors.values()][0]!);
    const load = (images: boolean) =>
      loadWeights(
        build(checkpoint, images),
        { ...checkpoint, tensors: extra },
        { policy: float32Policy, cacheDirectory: null, rules: rulesOf(checkpoint, images) },
      );
    await expect(load(true)).rejects.toThrow('"vision_model.extra"');
    expect((await load(false)).parameters).toBe(names(build(checkpoint, false)).length);
  });

  test('captures one graph for all layers of the tower, for any number of tiles', async () => {
    const inputs = { pixelValues: { dtype: 'float32', dims: [Dim.symbol('tiles'), ...[3, 56, 56].map((size) => Dim.of(size))] } } as const;
    const { graph } = captureModel(build(await open(), true), {
      inputs,
      call: (module, { pixelValues }) => ({ features: module.embedImages(pixelValues) }),
    });
    const regions = graph.nodes.flatMap((node) => (node.kind === 'region' ? [node.region] : []));
    expect([regions.length, new Set(regions).size]).toEqual([2, 1]);
    expect(graph.outputs[0]!.value.dims.join()).toBe('tiles,4,32');
  });

  test('embeds tokens, and rows of the features where they are asked for', async () => {
    const checkpoint = await open();
    const model = build(checkpoint, true);
    await loadWeights(model, checkpoint, { policy: float32Policy, cacheDirectory: null, rules: rulesOf(checkpoint, true) });
    const ids = { dims: [1, 4], data: BigInt64Array.of(5n, 300n, 300n, 6n) };
    const features = { dims: [3, 32], data: Float32Array.from({ length: 96 }, (_, i) => i) };
    const rows = { dims: [1, 4], data: BigInt64Array.of(-1n, 2n, 0n, -1n) };
    const { y, plain } = await runModule(model, { ids, features, rows }, (module, tensors) => ({
      y: module.embedInputIds(tensors.ids, tensors.features, tensors.rows),
      plain: module.language_model.model.embedInputIds(tensors.ids),
    }));
    const row = (values: ArrayLike<number>, i: number): number[] => Array.from(values).slice(32 * i, 32 * (i + 1));
    expect([0, 1, 2, 3].map((i) => row(y!.values, i))).toEqual([
      row(plain!.values, 0),
      row(features.data, 2),
      row(features.data, 0),
      row(plain!.values, 3),
    ]);
  });
});

describe('a model for text alone', () => {
  test('has no parameter for images, as a pipeline rank after the first has none', async () => {
    const checkpoint = await open();
    const forImages = /^(vision_model|multi_modal_projector)\./;
    expect(names(build(checkpoint, false)).filter((name) => forImages.test(name))).toEqual([]);
    expect(names(build(checkpoint, true, { rank: 1, size: 2 })).filter((name) => forImages.test(name))).toEqual([]);
    expect(names(build(checkpoint, true, { rank: 0, size: 2 })).filter((name) => forImages.test(name))).not.toEqual([]);
  });

  test('refuses images in its own words', async () => {
    const model = build(await open(), false);
    const pixels = { dims: [1, 3, 56, 56], data: new Float32Array(3 * 56 * 56) };
    const error: unknown = await runModule(model, { pixels }, (module, { pixels }) => ({ y: module.embedImages(pixels) })).catch((e) => e);
    expect(error).toBeInstanceOf(ImagesNotBuiltError);
    expect(error).toMatchObject({ where: 'Llama4ForConditionalGeneration.embedImages' });
  });
});
