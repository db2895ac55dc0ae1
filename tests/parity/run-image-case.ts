import {
  float32Policy,
  Llama4ForConditionalGeneration,
  type Llama4VisionConfig,
  loadWeights,
  openCheckpoint,
  parseLlama4Config,
  parseLlama4VisionConfig,
} from '@graft/core-model';
import { type Backend, type CapturedModel, captureModel, Dim, type HostTensor, ops, type Program, type Tensor } from '@graft/graph';
import { KvCachePlan } from '../../packages/engine/src/kv-cache.ts';
import { ModelRunner } from '../../packages/engine/src/runner/model-runner.ts';
import type { ReferenceCase, ReferenceImages } from './reference-case.ts';
import { type BackendChoice, type CaseReport, emptyResult, prefillTokens, type RowResult, report } from './run-case.ts';

/**
 * Runs a case with images on the model and a backend, without the engine: the tower and the projector as one graph, then the language model, whose
 * embeddings take the features at the image tokens, in pieces and token by token. The reference's tokens are forced, as in a case of text.
 */
export async function runImageCase(reference: ReferenceCase, choice: BackendChoice): Promise<CaseReport> {
  if (reference.images === null) throw new Error(`${reference.name} has no images`);
  const backend = choice.create();
  const length = reference.promptLength + reference.decodeIds[0]!.length;
  const { model, vision } = await loadModel(reference.folder, length);
  const features = await embedImages(backend, model, reference.images);
  model.setAuxHiddenStateLayers(Array.from({ length: reference.numLayers + 1 }, (_, i) => i));
  const plan = new KvCachePlan(model, length);
  using program = await backend.compile(captureLanguage(model, reference.hiddenSize), {
    places: reference.batch,
    bindSlot: (path, kind) => plan.bindSlot(path, kind),
  });
  const featureRows = rowsOfFeatures(reference, vision);
  const rows: RowResult[] = [];
  for (const [row, imageRows] of featureRows.entries()) {
    const runner = new ModelRunner(withImages(program, features, imageRows), plan);
    rows.push(await runRow(runner, plan, reference, row));
  }
  return report(reference, choice, rows, features.data);
}

async function loadModel(
  folder: string,
  maxModelLength: number,
): Promise<{ model: Llama4ForConditionalGeneration; vision: Llama4VisionConfig }> {
  const checkpoint = await openCheckpoint(folder);
  try {
    const config = parseLlama4Config(checkpoint.config, { where: folder });
    const vision = parseLlama4VisionConfig(checkpoint.config, { where: folder })!;
    const { architectures } = config;
    const pipeline = { rank: 0, size: 1 };
    const model = new Llama4ForConditionalGeneration({
      architectures,
      config,
      vision,
      platform: 'any',
      mode: 'any',
      maxModelLength,
      pipeline,
    });
    await loadWeights(model, checkpoint, { policy: float32Policy, cacheDirectory: null });
    return { model, vision };
  } finally {
    checkpoint.close();
  }
}

/** -> `[rows, hidden]`, the tokens of all tiles in order. */
async function embedImages(
  backend: Backend,
  model: Llama4ForConditionalGeneration,
  { pixelValues, pixelDims }: ReferenceImages,
): Promise<HostTensor & { data: Float32Array }> {
  const [tiles, ...tile] = pixelDims;
  const captured = captureModel(model, {
    inputs: { pixelValues: { dtype: 'float32', dims: [Dim.symbol('tiles'), ...tile.map((size) => Dim.of(size))] } },
    call: (proxy, { pixelValues }) => ({ features: proxy.embedImages(pixelValues) }),
  });
  using program = await backend.compile(captured, {
    places: 1,
    bindSlot: (path) => {
      throw new Error(`the vision tower has a runtime slot at ${path}`);
    },
  });
  const inputs = { pixelValues: { dtype: 'float32', dims: [tiles!, ...tile], data: pixelValues } } as const;
  const { features } = await program.run({ firstPlace: 0, batch: 1, inputs });
  const [, tokens, hidden] = features!.dims as [number, number, number];
  return { dtype: 'float32', dims: [tiles! * tokens, hidden], data: (features!.data as Float32Array).slice() };
}

/** The step of a language model as the engine captures it, with `imageFeatures` and `imageRows` besides. */
function captureLanguage(model: Llama4ForConditionalGeneration, hiddenSize: number): CapturedModel {
  const [batch, sequence] = [Dim.symbol('batch'), Dim.symbol('sequence')];
  return captureModel(model, {
    inputs: {
      inputIds: { dtype: 'int64', dims: [batch, sequence] },
      positions: { dtype: 'int64', dims: [batch, sequence] },
      logitsIndices: { dtype: 'int64', dims: [Dim.symbol('outputRows')] },
      imageFeatures: { dtype: 'float32', dims: [Dim.symbol('features'), Dim.of(hiddenSize)] },
      imageRows: { dtype: 'int64', dims: [batch, sequence] },
    },
    call(proxy, { inputIds, positions, logitsIndices, imageFeatures, imageRows }) {
      const embedded = proxy.embedInputIds(inputIds, imageFeatures, imageRows);
      const [hiddenStates, auxHiddenStates] = proxy.forward(inputIds, positions, null, embedded) as [Tensor, Tensor[]];
      return { logits: proxy.computeLogits(ops.gatherRows({ x: hiddenStates, indices: logitsIndices })), auxHiddenStates };
    },
  });
}

/** For each row of the batch and position of its prompt, the row of the features that stands there; -1 for text. */
function rowsOfFeatures({ inputIds }: ReferenceCase, { imageTokenIndex }: Llama4VisionConfig): number[][] {
  let next = 0;
  return inputIds.map((ids) => ids.map((id) => (id === imageTokenIndex ? next++ : -1)));
}

/** The program for one row, whose steps bring the features too. */
function withImages(program: Program, imageFeatures: HostTensor, rowAt: readonly number[]): Program {
  return {
    facts: program.facts,
    run(step) {
      const { dims, data } = step.inputs['positions']!;
      const imageRows: HostTensor = {
        dtype: 'int64',
        dims,
        data: BigInt64Array.from(data as BigInt64Array, (p) => BigInt(rowAt[Number(p)] ?? -1)),
      };
      return program.run({ ...step, inputs: { ...step.inputs, imageFeatures, imageRows } });
    },
    [Symbol.dispose]: () => program[Symbol.dispose](),
  };
}

/** A prompt in pieces, then the answer's tokens one at a time, but for the last, after which nothing is compared. */
async function runRow(runner: ModelRunner, plan: KvCachePlan, reference: ReferenceCase, row: number): Promise<RowResult> {
  const { promptLength, hiddenSize, vocabSize } = reference;
  const result = emptyResult(reference);
  const tokenIds = [...reference.inputIds[row]!, ...reference.decodeIds[row]!.slice(0, -1)];
  for (let computed = 0, count = 0; computed < tokenIds.length; computed += count) {
    count = computed < promptLength ? Math.min(prefillTokens, plan.roomAfter(computed), promptLength - computed) : 1;
    const piece = { tokenIds: tokenIds.slice(computed, computed + count), computed };
    const { logits, auxHiddenStates } = await runner.run({ firstPlace: row, rows: [piece], logits: 'all' });
    for (let i = 0; i < count; i++) result.logits.push(logits.slice(i * vocabSize, (i + 1) * vocabSize));
    if (computed < promptLength)
      for (const [layer, state] of auxHiddenStates.entries()) result.hidden[layer]!.set(state, computed * hiddenSize);
  }
  return result;
}
