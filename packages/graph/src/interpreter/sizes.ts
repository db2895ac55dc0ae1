import type { HostTensor } from '../backend.ts';
import { ProgramInputError } from '../errors.ts';
import type { TensorType } from '../graph-recorder.ts';
import { type Dim, formatDims } from '../shape.ts';
import { elementCount, holds } from './host-tensor.ts';

/** The sizes of a graph's symbols in one step, each with its source. */
export class Sizes {
  private readonly sizes = new Map<string, { size: number; from: string }>();

  /** Binds `dim` to `actual`, or checks it. @throws ProgramInputError that names both sources. */
  bind(dim: Dim, actual: number, from: string): void {
    const symbol = dim.symbolName;
    if (symbol === null) {
      const expected = this.evaluate(dim);
      if (expected !== actual) throw new ProgramInputError(`Its dimension ${dim.toString()} is ${actual}, expected ${expected}.`, from);
      return;
    }
    const known = this.sizes.get(symbol);
    if (known !== undefined && known.size !== actual)
      throw new ProgramInputError(`Its dimension "${symbol}" is ${actual}; ${known.from} has ${known.size}.`, from);
    if (known === undefined) this.sizes.set(symbol, { size: actual, from });
  }

  /** Checks a whole tensor against the type that the graph gives it. @throws ProgramInputError */
  bindTensor({ dtype, dims, data }: HostTensor, expected: TensorType, from: string): void {
    const refuse = (what: string): never => {
      throw new ProgramInputError(what, from);
    };
    if (dtype !== expected.dtype) refuse(`Its element type is ${dtype}, expected ${expected.dtype}.`);
    if (!holds(dtype, data)) refuse(`Its data is a ${data.constructor.name}, which does not hold ${dtype}.`);
    if (dims.length !== expected.dims.length) refuse(`Its shape is [${dims.join(', ')}], expected ${formatDims(expected.dims)}.`);
    if (data.length !== elementCount(dims))
      refuse(`Its shape [${dims.join(', ')}] needs ${elementCount(dims)} elements and has ${data.length}.`);
    for (const [axis, dim] of expected.dims.entries()) this.bind(dim, dims[axis]!, from);
  }

  /** @throws ShapeError for an unbound symbol. */
  evaluate(dim: Dim): number {
    return dim.evaluate((symbol) => this.sizes.get(symbol)?.size);
  }
}
