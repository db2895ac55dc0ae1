import { distance } from 'fastest-levenshtein';
import type { ModelContext } from '../context.ts';
import { pipelineLayers } from '../models/pipeline.ts';
import type { Checkpoint, CheckpointTensor } from './checkpoint.ts';
import { at, CheckpointMissingTensorError, CheckpointShapeMismatchError, CheckpointUnexpectedTensorError } from './errors.ts';
import type { MappedParameter, Segment } from './map-parameters.ts';

export interface MapParameters {
  /** Keys that are left out on purpose, such as the layers of another rank (`keysOfOtherRanks`). */
  ignoreKeys?: (key: string) => boolean;
}

/**
 * Finds the checkpoint's tensors for every parameter. The only place that knows checkpoint keys, stacking and transposes.
 * @param parameters names as vLLM has them, with shapes; with or without the prefix `language_model.`, as the checkpoint.
 * @throws CheckpointMissingTensorError, CheckpointShapeMismatchError, CheckpointUnexpectedTensorError
 */
export function mapParameters(
  parameters: Iterable<readonly [name: string, shape: readonly number[]]>,
  checkpoint: Checkpoint,
  { ignoreKeys = () => false }: MapParameters = {},
): MappedParameter[] {
  const layout = checkpoint.kind === 'gguf' ? ggufLayout : huggingFaceLayout;
  const prefix = [...checkpoint.tensors.keys()].some((key) => key.startsWith(languageModel)) ? languageModel : '';
  const mapped: MappedParameter[] = [];
  const used = new Set<string>();
  for (const [name, shape] of parameters) {
    const segments = segmentsOf({ name, shape, prefix, layout, checkpoint });
    for (const { tensor } of segments) used.add(tensor.key);
    mapped.push({ name, shape, segments });
  }
  refuseUnused(checkpoint, used, mapped, ignoreKeys);
  return mapped;
}

const languageModel = 'language_model.';

/** The keys of layers and of both ends, in either layout. */
const layerKey = /^(?:(?:language_model\.)?model\.layers|blk)\.(\d+)\./;
const embeddingKey = /^(?:language_model\.)?model\.embed_tokens\.weight$|^token_embd\.weight$/;
const lastRankKey = /^(?:language_model\.)?(?:model\.norm|lm_head)\.weight$|^output(?:_norm)?\.weight$/;

/** `MapParameters.ignoreKeys` for a pipeline rank: what is of the model and held by other ranks. With one rank that is nothing. */
export function keysOfOtherRanks({ config, pipeline }: Pick<ModelContext, 'config' | 'pipeline'>): (key: string) => boolean {
  const { start, end } = pipelineLayers(config.numHiddenLayers, pipeline);
  const [isFirst, isLast] = [pipeline.rank === 0, pipeline.rank === pipeline.size - 1];
  return (key) => {
    const layer = layerKey.exec(key);
    if (layer !== null) return Number(layer[1]) < config.numHiddenLayers && !(Number(layer[1]) >= start && Number(layer[1]) < end);
    if (embeddingKey.test(key)) return !isFirst && !(isLast && config.tieWordEmbeddings);
    return lastRankKey.test(key) && !isLast;
  };
}

/** How a parameter is put together: tensors joined along the first axis, of which the last `alike` must have equal rows; or experts. */
type Recipe =
  | { kind: 'stack'; keys: string[]; alike: number }
  | { kind: 'transposedExperts'; key: string; perExpert: (expert: number) => string[] };

/** From a parameter's name without prefix to its recipe; null when the layout has no such tensor. */
type Layout = (name: string) => Recipe | null;

const projections = new Map<string, string[]>([
  ['qkv_proj', ['q_proj', 'k_proj', 'v_proj']],
  ['gate_up_proj', ['gate_proj', 'up_proj']],
]);

/** Hugging Face's layout of Llama 4. Its q and k rows are interleaved already, as the rotation here wants them. */
const huggingFaceLayout: Layout = (name) => {
  const experts = /^(.*\.experts)\.(w13|w2)_weight$/.exec(name);
  if (experts !== null) {
    const [, base, which] = experts as unknown as [string, string, string];
    const parts = which === 'w13' ? ['gate_proj', 'up_proj'] : ['down_proj'];
    return {
      kind: 'transposedExperts',
      key: `${base}.${which === 'w13' ? 'gate_up_proj' : 'down_proj'}`,
      perExpert: (expert) => parts.map((part) => `${base}.${expert}.${part}.weight`),
    };
  }
  const stacked = /^(.*)\.(qkv_proj|gate_up_proj)\.(weight|bias)$/.exec(name);
  if (stacked === null) return { kind: 'stack', keys: [name], alike: 1 };
  const [, base, which, field] = stacked as unknown as [string, string, string, string];
  return { kind: 'stack', keys: projections.get(which)!.map((part) => `${base}.${part}.${field}`), alike: 2 };
};

const ggufNames = new Map<string, string>([
  ['model.embed_tokens.weight', 'token_embd.weight'],
  ['model.norm.weight', 'output_norm.weight'],
  ['lm_head.weight', 'output.weight'],
]);

const ggufLayerNames = new Map<string, string[]>([
  ['input_layernorm', ['attn_norm']],
  ['post_attention_layernorm', ['ffn_norm']],
  ['self_attn.qkv_proj', ['attn_q', 'attn_k', 'attn_v']],
  ['self_attn.o_proj', ['attn_output']],
  ['feed_forward.gate_up_proj', ['ffn_gate', 'ffn_up']],
  ['feed_forward.down_proj', ['ffn_down']],
]);

const ggufLayout: Layout = (name) => {
  const top = ggufNames.get(name);
  if (top !== undefined) return { kind: 'stack', keys: [top], alike: 1 };
  const layer = /^model\.layers\.(\d+)\.(.+)\.(weight|bias)$/.exec(name);
  const parts = layer === null ? undefined : ggufLayerNames.get(layer[2]!);
  if (parts === undefined) return null;
  return { kind: 'stack', keys: parts.map((part) => `blk.${layer![1]}.${part}.${layer![3]}`), alike: parts.length === 1 ? 1 : 2 };
};

interface Lookup {
  name: string;
  shape: readonly number[];
  prefix: string;
  layout: Layout;
  checkpoint: Checkpoint;
}

function segmentsOf(lookup: Lookup): Segment[] {
  const { name, prefix, layout, checkpoint } = lookup;
  const base = name.startsWith(languageModel) ? name.slice(languageModel.length) : name;
  const outside = ignoredInText.some((start) => base.startsWith(start)); // vision parts never carry the prefix
  const recipe = layout(base);
  if (recipe === null) throw missing(lookup, [base]);
  const full = (key: string): string => (outside ? key : prefix + key);
  if (recipe.kind === 'stack') return stack(lookup, recipe.keys.map(full), recipe.alike);
  return checkpoint.tensors.has(full(recipe.key))
    ? transposedExperts(lookup, full(recipe.key))
    : singleExperts(lookup, (e) => recipe.perExpert(e).map(full), full(recipe.key));
}

/** Tensors joined along the first axis; k and v, gate and up must agree, or one could be taken for the other. */
function stack(lookup: Lookup, keys: string[], alike: number): Segment[] {
  const tensors = tensorsOf(lookup, keys);
  const rows = tensors.reduce((sum, tensor) => sum + (tensor.shape[0] ?? 0), 0);
  const rest = lookup.shape.slice(1).join();
  const fits = tensors.every((t) => t.shape.length === lookup.shape.length && t.shape.slice(1).join() === rest);
  const even = new Set(tensors.slice(-alike).map((t) => t.shape[0])).size === 1;
  if (!fits || !even || rows !== lookup.shape[0]) throw mismatch(lookup, tensors);
  return tensors.map(whole);
}

/** `[experts, in, out]` in one tensor; the parameter is `[experts, out, in]`. */
function transposedExperts(lookup: Lookup, key: string): Segment[] {
  const [tensor] = tensorsOf(lookup, [key]) as [CheckpointTensor];
  const [experts, rows, columns] = tensor.shape as [number, number, number];
  if (tensor.shape.length !== 3 || lookup.shape.join() !== [experts, columns, rows].join())
    throw mismatch(lookup, [tensor], 'with the last two dimensions exchanged');
  const elements = rows * columns;
  return Array.from({ length: experts }, (_, expert) => ({
    tensor,
    first: expert * elements,
    elements,
    arrangement: { rows, columns, transposed: true, order: Array.from({ length: columns }, (_, column) => column) },
  }));
}

/** Each expert's matrices `[out, in]` in tensors of their own. */
function singleExperts(lookup: Lookup, perExpert: (expert: number) => string[], fusedKey: string): Segment[] {
  const { shape, checkpoint } = lookup;
  const [experts = 0, out = 0, width = 0] = shape;
  if (!perExpert(0).some((key) => checkpoint.tensors.has(key))) throw missing(lookup, [fusedKey]);
  return Array.from({ length: experts }, (_, expert) => {
    const keys = perExpert(expert);
    const tensors = tensorsOf(lookup, keys);
    const expected = [out / keys.length, width].join();
    if (tensors.some((tensor) => tensor.shape.join() !== expected)) throw mismatch(lookup, tensors, `for expert ${expert} of ${experts}`);
    return tensors.map(whole);
  }).flat();
}

function whole(tensor: CheckpointTensor): Segment {
  return { tensor, first: 0, elements: tensor.shape.reduce((product, dim) => product * dim, 1), arrangement: null };
}

function tensorsOf(lookup: Lookup, keys: string[]): CheckpointTensor[] {
  const absent = keys.filter((key) => !lookup.checkpoint.tensors.has(key));
  if (absent.length > 0) throw missing(lookup, absent);
  return keys.map((key) => lookup.checkpoint.tensors.get(key)!);
}

function missing({ name, shape, checkpoint }: Lookup, absent: string[]): CheckpointMissingTensorError {
  const nearest = nearestKeys(absent[0]!, checkpoint.tensors.keys());
  return new CheckpointMissingTensorError({
    what: `The parameter "${name}" [${shape.join(', ')}] needs ${absent.map((key) => `"${key}"`).join(', ')}, which the checkpoint lacks. Nearest keys: ${nearest.join(', ') || 'none'}.`,
    where: at(checkpoint.path, absent[0]),
  });
}

function mismatch({ name, shape, checkpoint }: Lookup, tensors: CheckpointTensor[], how = ''): CheckpointShapeMismatchError {
  const parts = tensors.map((tensor) => `"${tensor.key}" [${tensor.shape.join(', ')}]`).join(', ');
  return new CheckpointShapeMismatchError({
    what: `The parameter "${name}" is [${shape.join(', ')}] and cannot be made of ${parts}${how && ` ${how}`}.`,
    where: at(checkpoint.path, tensors[0]?.key),
  });
}

function nearestKeys(key: string, keys: Iterable<string>): string[] {
  return [...keys]
    .map((other) => [distance(key, other), other] as const)
    .sort((a, b) => a[0] - b[0])
    .slice(0, 3)
    .map(([, other]) => other);
}

/** Parts of a checkpoint with images that a model for text alone has no use for. */
const ignoredInText = ['vision_model.', 'multi_modal_projector.'];

function refuseUnused(
  checkpoint: Checkpoint,
  used: ReadonlySet<string>,
  mapped: readonly MappedParameter[],
  ignoreKeys: (key: string) => boolean,
): void {
  const ignoredStarts = ignoredInText.filter((start) => !mapped.some(({ name }) => name.startsWith(start)));
  const tied = !mapped.some(({ name }) => /(^|\.)lm_head\.weight$/.test(name));
  const unused = [...checkpoint.tensors.keys()].filter((key) => {
    if (used.has(key) || ignoreKeys(key) || key.endsWith('rotary_emb.inv_freq')) return false;
    if (tied && /^(language_model\.)?lm_head\.weight$|^output\.weight$/.test(key)) return false;
    return !ignoredStarts.some((start) => key.startsWith(start));
  });
  if (unused.length === 0) return;
  const shown = unused.slice(0, 20).map((key) => JSON.stringify(key));
  const more = unused.length > shown.length ? ` and ${unused.length - shown.length} more` : '';
  throw new CheckpointUnexpectedTensorError({
    what: `The model has no use for ${unused.length} of the checkpoint's ${checkpoint.tensors.size} tensors: ${shown.join(', ')}${more}.`,
    where: at(checkpoint.path, unused[0]),
  });
}
