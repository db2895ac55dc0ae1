import { LlmEngine } from '@graft/engine';
import { argmax, largestDifference, logProbability, margin, relativeDifference, rmsNormRows, scientific } from './compare.ts';
import { llamaCppChange } from './llama-cpp.ts';
import type { ReferenceCase } from './reference-case.ts';

export interface BackendChoice {
  /** The platform's name. */
  name: string;
  /** What a line calls it instead. */
  label?: string;
  /** Module specifiers of the plugins that bring it. */
  plugins: string[];
  /** The forms of weights that it has; all when left out. */
  weights?: readonly ('float32' | 'auto')[];
  /** The form in which the weights of a case are kept; default: float32. */
  form?: 'float32' | 'auto';
  /** Whether the logits of each token of a prompt are compared, as is the default, or those of its last one alone. */
  promptLogits?: boolean;
  /** The largest difference that passes. Default: 1e-3, absolute. */
  relativeTolerance?: number;
}

export interface CaseReport {
  passed: boolean;
  line: string;
}

const absoluteTolerance = 1e-3;
/** Shorter than every attention chunk of the cases, and no divisor of them. */
const prefillTokens = 7;

/** What the engine gave for one row of the batch. */
export interface RowResult {
  /** After each token of the prompt, then after each token of the answer. */
  logits: Float32Array[];
  /** By layer, then by position of the prompt. */
  hidden: Float32Array[];
  /** Of the tiles in its prompt, after the projector; empty for text. */
  imageFeatures: Float32Array;
}

/**
 * Runs a case through `loadModel` and `LlmEngine`: the prompts in pieces, the rows of the batch as sequences that are scheduled together, decoding from
 * the same KV slots, residual streams as auxiliary hidden states. The reference's tokens are forced, so that every step can be compared.
 */
export async function runCase(reference: ReferenceCase, backend: BackendChoice, app: string): Promise<CaseReport> {
  const { batch, promptLength, decodeIds, numLayers, maxPositions } = reference;
  const steps = decodeIds[0]!.length;
  const length = promptLength + steps;
  const engine = await LlmEngine.start({
    model: reference.model,
    app,
    plugins: backend.plugins,
    platform: backend.name,
    weights: backend.form ?? 'float32',
    maxSequences: batch,
    maxModelLength: length,
    prefillTokens,
    auxHiddenStateLayers: Array.from({ length: numLayers + 1 }, (_, i) => i),
    ...(length > maxPositions && { configOverrides: { max_position_embeddings: length } }),
  });
  try {
    const rows = await Promise.all(reference.inputIds.map((_, row) => runRow(engine, reference, row, backend.promptLogits ?? true)));
    return backend.form === 'auto' ? quantisedReport(reference, backend, rows) : report(reference, backend, rows);
  } finally {
    await engine.close();
  }
}

/** Room for what a row of a case gives. */
function emptyResult({ promptLength, numLayers, hiddenSize }: ReferenceCase): RowResult {
  const hidden = Array.from({ length: numLayers + 1 }, () => new Float32Array(promptLength * hiddenSize));
  return { logits: [], hidden, imageFeatures: new Float32Array(0) };
}

async function runRow(engine: LlmEngine, reference: ReferenceCase, row: number, promptLogits: boolean): Promise<RowResult> {
  const tokenIds = reference.inputIds[row]!;
  const forcedTokenIds = reference.decodeIds[row]!;
  const { promptLength, hiddenSize } = reference;
  const images = imagesOfRow(reference, row);
  const result = emptyResult(reference);
  const prompt = { tokenIds, ...(images !== null && { images: [images] }) };
  const request = { prompt, sampling: { temperature: 0, ignoreEos: true, maxTokens: forcedTokenIds.length } };
  const observer = {
    forcedTokenIds,
    promptLogits,
    onLogits(position: number, logits: Float32Array) {
      result.logits[position] = logits.slice();
    },
    onImageFeatures(features: Float32Array) {
      result.imageFeatures = features.slice();
    },
    onAuxHiddenStates(start: number, _count: number, states: readonly Float32Array[]) {
      if (start < promptLength) for (const [layer, state] of states.entries()) result.hidden[layer]!.set(state, start * hiddenSize);
    },
  };
  for await (const _ of engine.generate(request, { observer })) {
    // The observer sees what is compared.
  }
  return result;
}

function report(reference: ReferenceCase, backend: BackendChoice, rows: readonly RowResult[]): CaseReport {
  const { relativeTolerance } = backend;
  const tolerance = relativeTolerance ?? absoluteTolerance;
  const differenceOf = relativeTolerance === undefined ? largestDifference : relativeDifference;
  const { promptLength, vocabSize, decodeIds, finalNorm, numLayers, hidden } = reference;
  const logits = worst(rows, (row, r) => {
    const first = row.logits[0] === undefined ? promptLength - 1 : 0; // only the last token's, where no more was asked for
    return differenceOf(concat(row.logits.slice(first, promptLength), vocabSize), reference.logits[r]!.subarray(first * vocabSize));
  });
  const decode = worst(rows, (row, r) => differenceOf(concat(decodeRows(row, reference), vocabSize), reference.decodeLogits[r]!));
  const residual = (hidden ?? []).map((expected, layer) =>
    worst(rows, (row, r) => {
      const stream = row.hidden[layer]!;
      // The reference's last state is after the final norm.
      const actual = layer === numLayers ? rmsNormRows(stream, finalNorm.weight, finalNorm.epsilon) : stream;
      return differenceOf(actual, expected[r]!);
    }),
  );
  const greedy = compareGreedy(reference, rows, tolerance);
  const features = reference.images === null ? null : differenceOf(join(rows), reference.images.features);
  const passed = [features ?? 0, logits, decode, ...residual].every((difference) => difference <= tolerance) && greedy.passed;
  const line = [
    `${passed ? 'ok  ' : 'FAIL'} ${reference.name} ${backend.label ?? backend.name}:`,
    ...(features === null ? [] : [`image features ${scientific(features)},`]),
    `logits ${scientific(logits)},`,
    `residual ${residual.map((difference, layer) => `${layer === numLayers ? 'norm' : layer}:${scientific(difference)}`).join(' ')},`,
    `decode logits ${scientific(decode)},`,
    greedy.text(`${rows.length} x ${decodeIds[0]!.length}`),
  ].join(' ');
  return { passed, line };
}

/** The largest mean change of the log-probability, where llama.cpp's own on the same file is not larger. */
const meanChange = 0.05;
const clearMargin = 0.5;
/** A rounded activation may choose another expert where the router's choice is this close. */
const tiedRouter = 0.05;

/** How the first choices at the positions of a case compare with the reference's. */
export interface Choices {
  positions: number;
  equal: number;
  /** Positions with a margin over 0.5. */
  clear: number;
  clearEqual: number;
  /** Of the log-probability of the reference's first choice. */
  meanChange: number;
}

/** With experts, only positions count where no router of the reference was near a tie. @param rows logits or log-probabilities, by row and position. */
export function compareChoices(reference: ReferenceCase, rows: readonly (readonly Float32Array[])[]): Choices {
  const { vocabSize, logits, decodeLogits, routerMargins } = reference;
  const found = { positions: 0, equal: 0, clear: 0, clearEqual: 0 };
  let change = 0;
  for (const [r, row] of rows.entries()) {
    const expected = [...rowsOf(logits[r]!, vocabSize), ...rowsOf(decodeLogits[r]!, vocabSize).slice(1)]; // the prompt's last logits are the answer's first
    for (const [position, wanted] of expected.entries()) {
      if (routerMargins !== null && !((routerMargins[r]![position] ?? 0) > tiedRouter)) continue;
      const actual = row[position] ?? new Float32Array(vocabSize).fill(Number.NaN);
      const best = argmax(wanted);
      const isEqual = argmax(actual) === best;
      const isClear = margin(wanted) > clearMargin;
      found.positions++;
      change += Math.abs(logProbability(actual, best) - logProbability(wanted, best));
      if (isEqual) found.equal++;
      if (isClear) found.clear++;
      if (isClear && isEqual) found.clearEqual++;
    }
  }
  return { ...found, meanChange: change / found.positions };
}

export const choicesText = ({ positions, equal, clear, clearEqual, meanChange }: Choices): string =>
  `first choice equal at ${equal} of ${positions}, ${clearEqual} of ${clear} with a margin over ${clearMargin}, ` +
  `mean change of the log-probability ${meanChange.toFixed(4)}`;

/** In a quantised form: the first choice at every clear position, and the mean change of its log-probability. */
function quantisedReport(reference: ReferenceCase, backend: BackendChoice, rows: readonly RowResult[]): CaseReport {
  const choices = compareChoices(
    reference,
    rows.map((row) => row.logits),
  );
  const llamaCpp = llamaCppChange(reference.folder) ?? 0;
  const limit = Math.max(meanChange, llamaCpp);
  const passed = choices.clearEqual === choices.clear && choices.meanChange <= limit;
  const limitText = limit === llamaCpp ? `${limit}, llama.cpp's own` : limit;
  const line = `${passed ? 'ok  ' : 'FAIL'} ${reference.name} ${backend.label ?? backend.name}: ${choicesText(choices)} (at most ${limitText})`;
  return { passed, line };
}

const rowsOf = (all: Float32Array, width: number): Float32Array[] =>
  Array.from({ length: all.length / width }, (_, i) => all.subarray(i * width, (i + 1) * width));

/** The tiles of one row's prompt: the case has those of all rows in order. */
function imagesOfRow({ images, inputIds }: ReferenceCase, row: number): { pixelValues: Float32Array; tiles: number } | null {
  if (images === null) return null;
  const { pixelValues, pixelDims, imageTokenIndex, tokensPerTile } = images;
  const tilesOf = (ids: readonly number[]): number => ids.filter((id) => id === imageTokenIndex).length / tokensPerTile;
  const first = inputIds.slice(0, row).reduce((sum, ids) => sum + tilesOf(ids), 0);
  const tiles = tilesOf(inputIds[row]!);
  const length = pixelValues.length / pixelDims[0]!;
  return tiles === 0 ? null : { pixelValues: pixelValues.subarray(first * length, (first + tiles) * length), tiles };
}

const join = (rows: readonly RowResult[]): number[] => rows.flatMap(({ imageFeatures }) => Array.from(imageFeatures));

/** The logits that chose each token of the answer. */
function decodeRows(row: RowResult, { promptLength, decodeIds }: ReferenceCase): Float32Array[] {
  return row.logits.slice(promptLength - 1, promptLength - 1 + decodeIds[0]!.length);
}

function compareGreedy(
  reference: ReferenceCase,
  rows: readonly RowResult[],
  tolerance: number,
): { passed: boolean; text(count: string): string } {
  let first: string | null = null;
  let passed = true;
  for (const [r, row] of rows.entries()) {
    for (const [step, logits] of decodeRows(row, reference).entries()) {
      const expected = reference.decodeIds[r]![step]!;
      const actual = argmax(logits);
      if (actual === expected) continue;
      const lead = margin(reference.decodeLogits[r]!.subarray(step * reference.vocabSize, (step + 1) * reference.vocabSize));
      first ??= `row ${r}, step ${step}: ${actual} for ${expected}, whose margin in the reference is ${scientific(lead)}`;
      if (lead > tolerance) passed = false;
    }
  }
  return { passed, text: (count) => (first === null ? `greedy ids equal (${count})` : `greedy ids differ first at ${first}`) };
}

function worst(rows: readonly RowResult[], difference: (row: RowResult, index: number) => number): number {
  return rows.reduce((largest, row, index) => Math.max(largest, difference(row, index)), 0);
}

function concat(rows: readonly (Float32Array | undefined)[], width: number): Float32Array {
  const all = new Float32Array(rows.length * width);
  for (const [i, row] of rows.entries()) all.set(row ?? new Float32Array(width).fill(Number.NaN), i * width);
  return all;
}
