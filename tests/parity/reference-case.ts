import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { type CheckpointTensor, llama4, openCheckpoint, openFileBytes, readSafetensorsHeader } from '@graft/core-model';
import { aligned, float16ToNumber, fromBfloat16 } from '@graft/graph';
import { z } from 'zod';

/** What the published implementation gives for one tiny checkpoint; see ../../docs/parity.md for the form. */
export interface ReferenceCase {
  readonly name: string;
  readonly folder: string;
  /** The folder, or the GGUF in it. */
  readonly model: string;
  /** Texts with their ids by the tokenizer that was converted; none where the case has no `text.json`. */
  readonly texts: readonly { readonly text: string; readonly ids: readonly number[] }[];
  /** Null for a case of text alone. */
  readonly images: ReferenceImages | null;
  readonly batch: number;
  readonly promptLength: number;
  readonly numLayers: number;
  readonly vocabSize: number;
  readonly hiddenSize: number;
  readonly maxPositions: number;
  /** Prompt ids of each row. */
  readonly inputIds: number[][];
  /** `[promptLength, vocabSize]` of each row. */
  readonly logits: Float32Array[];
  /** For layer 0 to the last, and the final norm's output: `[promptLength, hiddenSize]` of each row; null where the case has none. */
  readonly hidden: Float32Array[][] | null;
  /** For each row and position of the prompt, by how little the router's choice was made in the layer where it was closest; null without experts. */
  readonly routerMargins: Float32Array[] | null;
  /** Whether the weights have a form of their own. */
  readonly isQuantised: boolean;
  readonly decodeIds: number[][];
  /** `[steps, vocabSize]` of each row. */
  readonly decodeLogits: Float32Array[];
  readonly finalNorm: { weight: Float32Array; epsilon: number };
}

/** The tiles of a case, all of its rows' in order. */
export interface ReferenceImages {
  /** `[tiles, 3, side, side]` */
  readonly pixelValues: Float32Array;
  readonly pixelDims: readonly number[];
  /** `[tiles, tokens, hidden]`, after the projector. */
  readonly features: Float32Array;
  readonly tokensPerTile: number;
  /** The token that stands at each place of a prompt where a row of the features goes. */
  readonly imageTokenIndex: number;
}

const Config = z.looseObject({
  num_hidden_layers: z.int(),
  vocab_size: z.int(),
  hidden_size: z.int(),
  rms_norm_eps: z.number().default(1e-5),
  max_position_embeddings: z.int(),
  num_experts_per_tok: z.int().default(1),
});

const Texts = z.looseObject({ texts: z.array(z.looseObject({ text: z.string(), ids: z.array(z.int()) })) });

/** Reads a folder with config.json, expected.safetensors, and model.safetensors or a GGUF in one file or several. */
export async function readReferenceCase(folder: string): Promise<ReferenceCase> {
  const gguf = readdirSync(folder)
    .sort()
    .find((name) => name.endsWith('.gguf'));
  const model = gguf === undefined ? folder : join(folder, gguf);
  const checkpoint = await openCheckpoint(model);
  const textFile = join(folder, 'text.json');
  const json = (path: string): unknown => JSON.parse(readFileSync(path, 'utf8'));
  try {
    const raw = z
      .looseObject({ text_config: z.unknown() })
      .partial()
      .parse(json(join(folder, 'config.json')));
    const config = Config.parse(raw.text_config ?? raw);
    const norm = [...checkpoint.tensors].find(([key]) => /(^|\.)(model\.norm|output_norm)\.weight$/.test(key));
    if (norm === undefined) throw new Error(`${folder}: the checkpoint has no model.norm.weight`);
    // Its norms multiply by one plus the weight; a GGUF has added the one.
    const isGemma = gguf === undefined && String(raw['architectures']).startsWith('Gemma');
    const expected = readExpected(join(folder, 'expected.safetensors'));
    const [batch, promptLength] = expected.shape('input_ids') as [number, number];
    const rows = (key: string): Float32Array[] => divide(expected.float32(key), batch);
    return {
      name: folder.split(/[\\/]/).filter(Boolean).at(-1) ?? folder,
      folder,
      model,
      texts: existsSync(textFile) ? Texts.parse(json(textFile)).texts : [],
      images: expected.has('pixel_values') ? imagesOf(expected, checkpoint.config) : null,
      batch,
      promptLength,
      numLayers: config.num_hidden_layers,
      vocabSize: config.vocab_size,
      hiddenSize: config.hidden_size,
      maxPositions: config.max_position_embeddings,
      inputIds: divide(expected.int64('input_ids'), batch),
      logits: rows('logits'),
      hidden: expected.has('hidden.0') ? Array.from({ length: config.num_hidden_layers + 1 }, (_, i) => rows(`hidden.${i}`)) : null,
      routerMargins: expected.has('router.0') ? divide(routerMarginsOf(expected, config), batch) : null,
      isQuantised: gguf !== undefined || 'quantization_config' in raw,
      decodeIds: divide(expected.int64('decode_ids'), batch),
      decodeLogits: rows('decode_logits'),
      finalNorm: { weight: toFloat32(norm[1]).map((w) => (isGemma ? 1 + w : w)), epsilon: config.rms_norm_eps },
    };
  } finally {
    checkpoint[Symbol.dispose]();
  }
}

/** The gap between the last expert that is chosen and the next, the least of all layers. `[batch * promptLength]` */
function routerMarginsOf(expected: ReturnType<typeof readExpected>, config: z.output<typeof Config>): Float32Array {
  const layers = Array.from({ length: config.num_hidden_layers }, (_, i) => `router.${i}`).filter(expected.has);
  const [tokens = 0, experts = 0] = expected.shape(layers[0]!);
  const margins = new Float32Array(tokens).fill(Number.POSITIVE_INFINITY);
  for (const layer of layers) {
    const logits = expected.float32(layer);
    for (let token = 0; token < tokens; token++) {
      const sorted = logits
        .slice(token * experts, (token + 1) * experts)
        .sort()
        .reverse();
      const [last, next] = [sorted[config.num_experts_per_tok - 1]!, sorted[config.num_experts_per_tok] ?? Number.NEGATIVE_INFINITY];
      margins[token] = Math.min(margins[token]!, last - next);
    }
  }
  return margins;
}

function imagesOf(expected: ReturnType<typeof readExpected>, config: unknown): ReferenceImages {
  const { imageTokenIndex } = llama4.parseConfig(config).vision!;
  return {
    pixelValues: expected.float32('pixel_values'),
    pixelDims: expected.shape('pixel_values'),
    features: expected.float32('image_features'),
    tokensPerTile: expected.shape('image_features')[1]!,
    imageTokenIndex,
  };
}

function readExpected(path: string) {
  const file = openFileBytes(path);
  try {
    const { tensors } = readSafetensorsHeader(file);
    const bytes = new Map([...tensors].map(([key, t]) => [key, { ...t, bytes: t.file.read(t.offset, t.byteLength) }]));
    const get = (key: string) => {
      const tensor = bytes.get(key);
      if (tensor === undefined) throw new Error(`${path}: there is no tensor "${key}"`);
      return tensor;
    };
    return {
      has: (key: string) => bytes.has(key),
      shape: (key: string) => get(key).shape,
      float32: (key: string) => aligned(get(key).bytes, Float32Array),
      int64: (key: string) => Array.from(aligned(get(key).bytes, BigInt64Array), Number),
    };
  } finally {
    file.close();
  }
}

function toFloat32({ file, offset, byteLength, dtype, key }: CheckpointTensor): Float32Array {
  const bytes = file.read(offset, byteLength);
  if (dtype === 'BF16') return fromBfloat16(aligned(bytes, Uint16Array));
  if (dtype === 'F16') return Float32Array.from(aligned(bytes, Uint16Array), float16ToNumber);
  if (dtype === 'F32') return aligned(bytes, Float32Array);
  throw new Error(`${key} is ${dtype}; the reference cases have BF16, F16 or F32`);
}

function divide<A extends { length: number; slice(start: number, end: number): A }>(values: A, parts: number): A[] {
  const size = values.length / parts;
  return Array.from({ length: parts }, (_, i) => values.slice(i * size, (i + 1) * size));
}
