import {
  float32Policy,
  Llama4ForConditionalGeneration,
  type Llama4VisionConfig,
  loadWeights,
  openCheckpoint,
  parseLlama4Config,
  parseLlama4VisionConfig,
} from '@graft/core-model';
import { captureMultimodalModel, captureVisionModel } from '@graft/engine';
import { type Backend, CaptureCache, type HostTensor, type Program } from '@graft/graph';
import { KvCachePlan } from '../../packages/engine/src/kv-cache.ts';
import { runResult, stepTensors } from '../../packages/engine/src/runner/program-step.ts';
import type { ReferenceCase, ReferenceImages } from './reference-case.ts';
import { type BackendChoice, type CaseReport, emptyResult, prefillTokens, type RowResult, report } from './run-case.ts';

/**
 * Runs a case with images through the engine's captures and its runner, without a request: the tower and the projector as one graph, then the language
 * model, whose embeddings take the features at the image tokens, in pieces and token by token. The reference's tokens are forced, as in a case of text.
 */
export async function runImageCase(reference: ReferenceCase, choice: BackendChoice): Promise<CaseReport> {
  if (reference.images === null) throw new Error(`${reference.name} has no images`);
  const backend = choice.create();
  const length = reference.promptLength + reference.decodeIds[0]!.length;
  const { model, vision } = await loadModel(reference.folder, length);
  const imageFeatures = await embedImages(backend, model, vision, reference.images);
  model.setAuxHiddenStateLayers(Array.from({ length: reference.numLayers + 1 }, (_, i) => i));
  const plan = new KvCachePlan(model, length);
  using program = await backend.compile(captureMultimodalModel(model, new CaptureCache(), reference.hiddenSize), {
    places: reference.batch,
    bindSlot: (path, kind) => plan.bindSlot(path, kind),
  });
  const rows: RowResult[] = [];
  for (const [row, imageRows] of rowsOfFeatures(reference, vision).entries())
    rows.push(await runRow(program, plan, reference, { row, imageFeatures, imageRows }));
  return report(reference, choice, rows, imageFeatures.data);
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
  vision: Llama4VisionConfig,
  { pixelValues, pixelDims }: ReferenceImages,
): Promise<HostTensor & { data: Float32Array }> {
  using program = await backend.compile(captureVisionModel(model, new CaptureCache(), vision), {
    places: 1,
    bindSlot: (path) => {
      throw new Error(`the vision tower has a runtime slot at ${path}`);
    },
  });
  const inputs = { pixelValues: { dtype: 'float32', dims: pixelDims, data: pixelValues } } as const;
  const features = (await program.run({ firstPlace: 0, batch: 1, inputs }))['imageFeatures']!;
  return { ...features, data: (features.data as Float32Array).slice() };
}

/** A row's place in the batch, and what stands in its prompt. */
interface PromptImages {
  row: number;
  imageFeatures: HostTensor;
  imageRows: readonly number[];
}

/** For each row of the batch and position of its prompt, the row of the features that stands there; -1 for text. */
function rowsOfFeatures({ inputIds }: ReferenceCase, { imageTokenIndex }: Llama4VisionConfig): number[][] {
  let next = 0;
  return inputIds.map((ids) => ids.map((id) => (id === imageTokenIndex ? next++ : -1)));
}

/** A prompt in pieces, then the answer's tokens one at a time, but for the last, after which nothing is compared. */
async function runRow(
  program: Program,
  plan: KvCachePlan,
  reference: ReferenceCase,
  { row, imageFeatures, imageRows }: PromptImages,
): Promise<RowResult> {
  const { promptLength, hiddenSize, vocabSize } = reference;
  const noFeatures: HostTensor = { dtype: 'float32', dims: [0, hiddenSize], data: new Float32Array(0) };
  const result = emptyResult(reference);
  const tokenIds = [...reference.inputIds[row]!, ...reference.decodeIds[row]!.slice(0, -1)];
  for (let computed = 0, count = 0; computed < tokenIds.length; computed += count) {
    const prefill = computed < promptLength;
    count = prefill ? Math.min(prefillTokens, plan.roomAfter(computed), promptLength - computed) : 1;
    const end = computed + count;
    const rows = [{ tokenIds: tokenIds.slice(computed, end), computed, ...(prefill && { imageRows: imageRows.slice(computed, end) }) }];
    const step = { firstPlace: row, rows, logits: 'all', imageFeatures: prefill ? imageFeatures : noFeatures } as const;
    const outputs = await program.run({ firstPlace: row, batch: 1, inputs: stepTensors(step, plan.groups) });
    const { logits, auxHiddenStates } = runResult(outputs);
    for (let i = 0; i < count; i++) result.logits.push(logits.slice(i * vocabSize, (i + 1) * vocabSize));
    if (prefill) for (const [layer, state] of auxHiddenStates.entries()) result.hidden[layer]!.set(state, computed * hiddenSize);
  }
  return result;
}
