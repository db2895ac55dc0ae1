import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Parameter } from '@graft/graph';
import { withFile } from './file-bytes.ts';
import type { Run, WeightRules } from './rules.ts';

/** A piece of a tensor: a run of a parameter's elements, and where in the parameter they begin. */
interface Piece {
  readonly parameter: Parameter;
  readonly start: number;
  readonly run: Run;
}

const dtypes: Readonly<Record<string, { name: string; bytes: number }>> = {
  float16: { name: 'F16', bytes: 2 },
  bfloat16: { name: 'BF16', bytes: 2 },
};
const float32 = { name: 'F32', bytes: 4 }; // also of quantised parameters
const dtypeOf = (parameter: Parameter) => dtypes[parameter.dtype] ?? float32;

/**
 * Writes config.json and model.safetensors, each tensor by the rules that would load it. A quantised parameter is written in float32. Tensors that the
 * rules leave out (`unused`) are not written.
 * @param parameters by the names that they were loaded under, e.g. `new Map(model.namedParameters())`.
 */
export function writeCheckpoint(
  folder: string,
  parameters: ReadonlyMap<string, Parameter>,
  { rules, config }: { rules: WeightRules; config: Readonly<Record<string, unknown>> },
): void {
  const tensors = new Map<string, Piece[]>();
  for (const [name, parameter] of parameters) {
    let start = 0;
    for (const run of rules.runsOf(name, parameter.shape)) {
      const pieces = tensors.get(run.key) ?? [];
      tensors.set(run.key, [...pieces, { parameter, start, run }]);
      start += run.elements;
    }
  }
  const header: Record<string, unknown> = { __metadata__: { format: 'pt' } };
  let end = 0;
  for (const [key, [first]] of tensors) {
    const { name, bytes } = dtypeOf(first!.parameter);
    const begin = end;
    end += first!.run.shape.reduce((all, dim) => all * dim, bytes);
    header[key] = { dtype: name, shape: first!.run.shape, data_offsets: [begin, end] };
  }
  mkdirSync(folder, { recursive: true });
  writeFileSync(join(folder, 'config.json'), `${JSON.stringify(config, null, 2)}\n`);
  const text = new TextEncoder().encode(JSON.stringify(header));
  const padded = new Uint8Array(8 + Math.ceil(text.length / 8) * 8).fill(32); // the data begin at a multiple of 8
  new DataView(padded.buffer).setBigUint64(0, BigInt(padded.length - 8), true);
  padded.set(text, 8);
  withFile(join(folder, 'model.safetensors'), 'w', (file) => {
    writeFileSync(file, padded);
    for (const pieces of tensors.values()) writeFileSync(file, tensorBytes(pieces));
  });
}

function tensorBytes(pieces: readonly Piece[]): Uint8Array {
  const [{ parameter: first, run: whole }] = pieces as [Piece];
  const { bytes: size } = dtypeOf(first);
  const tensor = new Uint8Array(whole.shape.reduce((all, dim) => all * dim, size));
  for (const { parameter, start, run } of pieces) {
    const bytes = bytesOf(parameter).subarray(start * size, (start + run.elements) * size);
    const { rows, columns, transposed, order } = run.arrangement ?? { rows: 1, columns: run.elements, transposed: false, order: [0] };
    const width = transposed ? rows : columns;
    const together = transposed ? 1 : width; // elements that are neighbours in both
    for (const [row, from] of order.entries()) {
      for (let i = 0; i < width; i += together) {
        const at = (row * width + i) * size;
        const target = run.first + (transposed ? i * columns + from : from * width);
        tensor.set(bytes.subarray(at, at + together * size), target * size);
      }
    }
  }
  return tensor;
}

function bytesOf(parameter: Parameter): Uint8Array {
  const values = parameter.dtype in dtypes ? parameter.storage!.parts['data']!.read() : parameter.toFloat32();
  return new Uint8Array(values.buffer, values.byteOffset, values.byteLength);
}
