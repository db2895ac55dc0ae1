import { DimCoercedError, ShapeError } from './errors.ts';
import { joinPath } from './nn/module.ts';

/** Called when code asks something of a symbolic dimension that a number in its place may answer differently. */
let asked: (() => void) | null = null;

/** Runs `body` and calls `onAsked` at each such question; null watches none. An `equals` that proves two dimensions equal does not count. */
export function watchSizes<T>(onAsked: (() => void) | null, body: () => T): T {
  const before = asked;
  asked = onAsked;
  try {
    return body();
  } finally {
    asked = before;
  }
}

/**
 * One dimension of a symbolic tensor: a number, or a product of a number and named symbols.
 * Two symbols never become one because their values agree. A symbol whose name begins with `@` is local to the module under the path that follows.
 */
export class Dim {
  private readonly coefficient: number;
  private readonly symbols: readonly string[];
  private readonly text: string;

  private constructor(coefficient: number, symbols: readonly string[]) {
    this.coefficient = coefficient;
    this.symbols = symbols;
    this.text = (coefficient === 1 && symbols.length > 0 ? symbols : [String(coefficient), ...symbols]).join('*');
    Object.freeze(this);
  }

  static of(size: number | Dim): Dim {
    if (size instanceof Dim) return size;
    if (!Number.isSafeInteger(size) || size < 0)
      throw new ShapeError(`A dimension must be a whole number, 0 or more; this one is ${size}.`);
    return new Dim(size, []);
  }

  /** @throws ShapeError for a name that would read as a number or a product. */
  static symbol(name: string): Dim {
    if (!/^[^\d*][^*]*$/.test(name)) throw new ShapeError(`"${name}" cannot be the name of a dimension.`);
    return new Dim(1, [name]);
  }

  get isStatic(): boolean {
    this.noteAsked();
    return this.symbols.length === 0;
  }

  /** The number. @throws ShapeError when the dimension is symbolic. Check `isStatic` first. */
  get value(): number {
    if (!this.isStatic) throw new ShapeError(`Dimension "${this.toString()}" is symbolic and has no value during capture.`);
    return this.coefficient;
  }

  times(other: number | Dim): Dim {
    const factor = Dim.of(other);
    return new Dim(this.coefficient * factor.coefficient, [...this.symbols, ...factor.symbols].sort());
  }

  /** @throws ShapeError when the division leaves a remainder. */
  dividedBy(divisor: number): Dim {
    if (this.coefficient % divisor === 0) return new Dim(this.coefficient / divisor, this.symbols);
    throw new ShapeError(`Dimension ${this.toString()} cannot be divided by ${divisor}.`);
  }

  /** Whether both are the same number or the same product of symbols. Values are never guessed. */
  equals(other: number | Dim): boolean {
    const dim = Dim.of(other);
    if (this === dim || this.text === dim.text) return true;
    this.noteAsked();
    dim.noteAsked();
    return false;
  }

  /** The size once the symbols have values. @throws ShapeError for a symbol that `lookup` does not know. */
  evaluate(lookup: (symbol: string) => number | undefined): number {
    this.noteAsked();
    return this.symbols.reduce((product, symbol) => {
      const size = lookup(symbol);
      if (size === undefined) throw new ShapeError(`Symbol "${symbol}" has no value.`);
      return product * size;
    }, this.coefficient);
  }

  /** The symbol, when the dimension is exactly one symbol; else null. */
  get symbolName(): string | null {
    this.noteAsked();
    return this.coefficient === 1 && this.symbols.length === 1 ? this.symbols[0]! : null;
  }

  /** Whether one of its symbols belongs to a module. */
  get isLocal(): boolean {
    return this.symbols.some((symbol) => symbol.startsWith('@'));
  }

  renamed(rename: (symbol: string) => string): Dim {
    return this.isStatic ? this : new Dim(this.coefficient, this.symbols.map(rename).sort());
  }

  /** The same product, with numbers for some of its symbols. */
  withSizes(sizes: ReadonlyMap<string, number>): Dim {
    if (!this.symbols.some((symbol) => sizes.has(symbol))) return this;
    const coefficient = this.symbols.reduce((product, symbol) => product * (sizes.get(symbol) ?? 1), this.coefficient);
    const symbols = this.symbols.filter((symbol) => !sizes.has(symbol));
    return new Dim(coefficient, symbols);
  }

  toString(): string {
    this.noteAsked();
    return this.text;
  }

  /** Gives text. A comparison or arithmetic with a symbol would be silently wrong, so it throws. */
  [Symbol.toPrimitive](hint: string): string {
    if (hint === 'string') return this.toString();
    throw new DimCoercedError(this.toString());
  }

  private noteAsked(): void {
    if (asked !== null && this.symbols.length > 0) asked();
  }
}

export type Dims = readonly Dim[];

export function dimsOf(sizes: readonly (number | Dim)[]): Dims {
  return sizes.map((size) => Dim.of(size));
}

export function formatDims(dims: Dims): string {
  return `[${dims.join(', ')}]`;
}

export function sameDims(a: Dims, b: Dims): boolean {
  return a === b || (a.length === b.length && a.every((dim, i) => dim.equals(b[i]!)));
}

export function productOf(dims: Dims): Dim {
  return dims.reduce((product, dim) => product.times(dim), Dim.of(1));
}

/** @throws ShapeError that names the tensor of the wrong size. */
export function expectDim(what: string, actual: Dim | undefined, expected: Dim | number | undefined): void {
  if (actual !== undefined && expected !== undefined && actual.equals(expected)) return;
  throw new ShapeError(`${what} has size ${actual?.toString() ?? 'none'}, expected ${expected?.toString() ?? 'none'}.`);
}

/** Renames the symbols of a region's modules (`@attn`) to those of the called module under `prefix` (`@layers.3.attn`). */
export function localise(dims: Dims, prefix: string): Dims {
  if (prefix === '' || !dims.some((dim) => dim.isLocal)) return dims;
  return dims.map((dim) => dim.renamed((symbol) => (symbol.startsWith('@') ? `@${joinPath(prefix, symbol.slice(1))}` : symbol)));
}
