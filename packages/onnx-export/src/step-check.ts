import { type Dim, formatDims, type HostTensor, ProgramInputError, type ProgramStep } from '@graft/graph';
import type { AttentionGroup, ExportedGraph, StepInput } from './export-graph.ts';

const arrays = { float32: Float32Array, int64: BigInt64Array, int32: Int32Array, bool: Uint8Array } as const;

/** The sizes of the symbols in a step. */
export type Symbols = ReadonlyMap<string, number>;

/** Checks the inputs of a step before native code reads them, and finds the sizes of the symbols. @throws ProgramInputError */
export function checkStep({ inputs, groups }: Pick<ExportedGraph, 'inputs' | 'groups'>, step: ProgramStep, kvSlots: number): Symbols {
  const { firstSlot, batch } = step;
  if (!Number.isSafeInteger(firstSlot) || !Number.isSafeInteger(batch) || firstSlot < 0 || batch < 1 || firstSlot + batch > kvSlots) {
    const what = `The step uses slots ${firstSlot} to ${firstSlot + batch - 1}; the program has ${kvSlots}.`;
    throw new ProgramInputError(what, 'firstSlot and batch');
  }
  const symbols = new Map<string, number>();
  for (const input of inputs) checkInput(input, step.inputs[input.name], symbols);
  const known = inputs.map(({ name }) => name);
  const unknown = Object.keys(step.inputs).find((name) => !known.includes(name));
  if (unknown !== undefined)
    throw new ProgramInputError(`The program has no input "${unknown}".`, `input "${unknown}"`, `use one of: ${known.join(', ')}.`);
  for (const group of groups) checkGroup(group, step, symbols);
  return symbols;
}

export function sizesOf(dims: readonly Dim[], symbols: Symbols): number[] {
  return dims.map((dim) => dim.evaluate((symbol) => symbols.get(symbol)));
}

function checkInput({ name, dtype, dims }: StepInput, tensor: HostTensor | undefined, symbols: Map<string, number>): void {
  const where = `input "${name}"`;
  if (tensor === undefined) throw new ProgramInputError(`The input is missing; ${dtype}${formatDims(dims)} is expected.`, where);
  if (tensor.dtype !== dtype || !(tensor.data instanceof arrays[dtype])) {
    throw new ProgramInputError(`The input is ${tensor.dtype} in ${tensor.data.constructor.name}; ${dtype} is expected.`, where);
  }
  if (tensor.dims.length !== dims.length)
    throw new ProgramInputError(`The input is [${tensor.dims.join(', ')}]; ${formatDims(dims)} is expected.`, where);
  for (const [axis, dim] of dims.entries()) {
    const size = tensor.dims[axis]!;
    const symbol = dim.symbolName;
    if (symbol !== null && !symbols.has(symbol)) symbols.set(symbol, size);
    const expected = dim.evaluate((each) => symbols.get(each));
    if (size === expected) continue;
    const reason = dim.isStatic ? `${expected} is expected` : `"${dim.toString()}" is ${expected}`;
    throw new ProgramInputError(`Axis ${axis} is ${size}; ${reason}.`, where);
  }
  const count = tensor.dims.reduce((product, size) => product * size, 1);
  if (tensor.data.length !== count)
    throw new ProgramInputError(`[${tensor.dims.join(', ')}] has ${count} elements; the data has ${tensor.data.length}.`, where);
}

/** GroupQueryAttention reads and writes rows by these numbers without a check. */
function checkGroup(group: AttentionGroup, { batch, inputs }: ProgramStep, symbols: Symbols): void {
  const read = (name: string | null): number[] | null => (name === null ? null : Array.from(inputs[name]!.data, Number));
  const lengths = read(group.sequenceLengths);
  const total = read(group.totalLength)?.[0];
  const starts = read(group.queryStart);
  const queries = group.sequence.evaluate((symbol) => symbols.get(symbol));
  if (lengths === null || total === undefined) return;
  const where = `attention at ${group.path}: "${group.sequenceLengths}" [${lengths.join(', ')}], "${group.totalLength}" ${total}`;
  if (lengths.length !== batch) throw new ProgramInputError(`The step has ${lengths.length} lengths for a batch of ${batch}.`, where);
  const full = `The cache has ${group.rows} rows; ${total} are needed.`;
  if (total > group.rows) throw new ProgramInputError(full, where, 'end the sequence, or compile with more rows.');
  if (lengths.some((length) => length < 1 || length > total))
    throw new ProgramInputError(`Each length must be between 1 and ${total}.`, where);
  const first = queries === total && (starts === null || starts.every((start) => start === 0));
  if (first) return;
  if (queries > 1 && batch > 1) {
    const what = `${batch} sequences of ${queries} queries each already have rows in the cache.`;
    throw new ProgramInputError(what, where, 'run a sequence alone when it has more than one query.');
  }
  const wrong = starts?.findIndex((start, i) => start + queries !== lengths[i]) ?? -1;
  if (wrong >= 0 || (starts === null && lengths.some((length) => length < queries))) {
    const what = `Sequence ${Math.max(wrong, 0)} does not end after its ${queries} queries.`;
    throw new ProgramInputError(what, where, 'do not pad the queries of a sequence that has rows in the cache.');
  }
}
