/** A matrix within a tensor. The parameter has its rows, or its columns if it is transposed, in another order. */
export interface Arrangement {
  /** Of the matrix in the tensor. */
  readonly rows: number;
  readonly columns: number;
  readonly transposed: boolean;
  /** The row, or column, of the matrix for each row of the parameter. */
  readonly order: readonly number[];
}

/** Consecutive elements of a parameter, and their place in a tensor: `elements` from `first` on, in the tensor's order unless arranged. */
export interface Run {
  readonly key: string;
  /** Of the whole tensor. */
  readonly shape: readonly number[];
  readonly first: number;
  readonly elements: number;
  readonly arrangement: Arrangement | null;
}

/** Gives a source the tensor names of one parameter. */
interface Lookup {
  /** A tensor's key, its `*` filled in from the parameter's name. */
  key(pattern: string): string;
  has(key: string): boolean;
}

/** The source of a parameter, as runs that have each element once. They serve loading and writing. */
export interface Source {
  /** Patterns of the tensors that it may take. `#` is an expert's number. */
  readonly tensors: readonly string[];
  runs(shape: readonly number[], lookup: Lookup): Run[];
}

type SourceLike = Source | string;

const product = (dims: readonly number[]): number => dims.reduce((all, dim) => all * dim, 1);

/** A whole tensor. A plain string means the same. */
export function tensor(pattern: string): Source {
  return {
    tensors: [pattern],
    runs: (shape, { key }) => [{ key: key(pattern), shape, first: 0, elements: product(shape), arrangement: null }],
  };
}

const sourceOf = (source: SourceLike): Source => (typeof source === 'string' ? tensor(source) : source);

/**
 * Joined along an axis, in this order.
 * @param sizes of the parts on that axis. Default: equal sizes.
 */
export function stack(parts: readonly SourceLike[], sizes?: readonly number[], axis: 0 | 1 = 0): Source {
  const sources = parts.map(sourceOf);
  return {
    tensors: sources.flatMap(({ tensors }) => tensors),
    runs(shape, lookup) {
      const widths = sizes ?? sources.map(() => shape[axis]! / sources.length);
      const all = sources.map((source, i) => source.runs(shape.with(axis, widths[i]!), lookup));
      if (axis === 0) return all.flat();
      const inner = product(shape.slice(2));
      return Array.from({ length: shape[0]! }, (_, row) =>
        all.flatMap((runs, i) => cut(runs, row * widths[i]! * inner, (row + 1) * widths[i]! * inner)),
      ).flat();
    },
  };
}

/** The rows from `start` on of a tensor with `total` rows, which holds several parameters. The inverse of `stack`. */
export function split(source: SourceLike, start: number, total: number): Source {
  const { tensors, runs } = sourceOf(source);
  return {
    tensors,
    runs([rows = 0, ...rest], lookup) {
      const inner = product(rest);
      return cut(runs([total, ...rest], lookup), start * inner, (start + rows) * inner);
    },
  };
}

/** The last two axes exchanged. @param from the column of the tensor that becomes this row of the parameter; a bijection. */
export function transposed(pattern: string, from: (row: number) => number = (row) => row): Source {
  return matrices(pattern, { transposed: true, from });
}

/** Rows in another order. @param from the row of the tensor that becomes this row of the parameter; a bijection. */
export function reordered(pattern: string, from: (row: number) => number): Source {
  return matrices(pattern, { transposed: false, from });
}

/** `reordered` for the last axis: the biases of experts. */
export function vectors(pattern: string, from: (element: number) => number): Source {
  const { tensors, runs } = reordered(pattern, from);
  return { tensors, runs: (shape, lookup) => runs([...shape, 1], lookup).map((run) => ({ ...run, shape })) };
}

/** For `reordered`: the two rows of a rotated pair are neighbours in the parameter, and half a head apart in the tensor. */
export const pairsFromHalves = (headDim: number) => (row: number) =>
  row - (row % headDim) + (row % 2) * (headDim / 2) + Math.floor((row % headDim) / 2);

/** The inverse of `pairsFromHalves`. */
export const halvesFromPairs = (headDim: number) => (row: number) => {
  const half = headDim / 2;
  return row - (row % headDim) + (row % half) * 2 + Math.floor((row % headDim) / half);
};

function matrices(pattern: string, { transposed: isTransposed, from }: { transposed: boolean; from: (row: number) => number }): Source {
  return {
    tensors: [pattern],
    runs(shape, { key }) {
      const [outer, [out = 1, width = 1]] = shape.length > 2 ? [shape.slice(0, -2), shape.slice(-2)] : [[], shape];
      const order = Array.from({ length: out }, (_, row) => from(row));
      const [rows, columns] = isTransposed ? [width, out] : [out, width];
      return Array.from({ length: product(outer) }, (_, index) => ({
        key: key(pattern),
        shape: isTransposed ? [...outer, rows, columns] : shape,
        first: index * out * width,
        elements: out * width,
        arrangement: { rows, columns, transposed: isTransposed, order },
      }));
    },
  };
}

/** One tensor for each expert, or several: `#` in their names is its number, the first axis of the parameter. */
export function perExpert(source: SourceLike): Source {
  const { tensors, runs } = sourceOf(source);
  return {
    tensors,
    runs: ([experts = 0, ...rest], lookup) =>
      Array.from({ length: experts }, (_, expert) =>
        runs(rest, { ...lookup, key: (pattern) => lookup.key(pattern.replace('#', String(expert))) }),
      ).flat(),
  };
}

/** The first source that the checkpoint has a tensor of. Without any, and for writing: the first source. */
export function either(...sources: readonly SourceLike[]): Source {
  const all = sources.map(sourceOf);
  return {
    tensors: all.flatMap(({ tensors }) => tensors),
    runs(shape, lookup) {
      const there = (source: Source) => source.tensors.some((pattern) => lookup.has(lookup.key(pattern.replace('#', '0'))));
      return (all.find(there) ?? all[0]!).runs(shape, lookup);
    },
  };
}

/** The elements `from` to `to` of these runs together. Arranged runs are cut between rows. */
function cut(runs: readonly Run[], from: number, to: number): Run[] {
  const found: Run[] = [];
  let at = 0;
  for (const run of runs) {
    const [start, end] = [Math.max(from - at, 0), Math.min(to - at, run.elements)];
    at += run.elements;
    if (start >= end) continue;
    const { arrangement } = run;
    const width = run.elements / (arrangement?.order.length ?? run.elements);
    found.push({
      ...run,
      first: arrangement === null ? run.first + start : run.first,
      elements: end - start,
      arrangement: arrangement && { ...arrangement, order: arrangement.order.slice(start / width, end / width) },
    });
  }
  return found;
}

export interface WeightRulesOptions {
  /** A prefix that names of parameters or tensors may have, because the model is part of a larger one: `language_model.`. */
  prefix?: string;
  /** Patterns of tensors that the model does not use. */
  unused?: readonly string[];
  /** Patterns of parameters that the first pipeline rank has, apart from the embedding. */
  firstRank?: readonly string[];
}

/**
 * How a layout's tensors become a family's parameters: a source for each pattern of parameters. The first pattern that matches counts; without a match,
 * the tensor has the parameter's name. `*` is any run of characters, the same on both sides. A tensor with exactly the parameter's name is used where the
 * tensors of the source are missing (a fused `qkv_proj`).
 */
export class WeightRules {
  private readonly rules: readonly { parameter: string; source: Source }[];
  private readonly prefix: string;
  private readonly unused: readonly string[];
  private readonly firstRank: readonly string[];

  constructor(rules: Readonly<Record<string, SourceLike>>, { prefix = '', unused = [], firstRank = [] }: WeightRulesOptions = {}) {
    this.rules = Object.entries(rules).map(([parameter, source]) => ({ parameter, source: sourceOf(source) }));
    this.prefix = prefix;
    this.unused = unused;
    this.firstRank = ['model.embed_tokens.*', ...firstRank];
  }

  /** The runs of a parameter, in its row-major order. @param has whether the checkpoint has a tensor. Default: it has none, as for writing. */
  runsOf(parameter: string, shape: readonly number[], has: (key: string) => boolean = () => false): Run[] {
    const name = this.withoutPrefix(parameter);
    const full = (base: string): string => {
      const prefixed = this.prefix + base;
      return has(base) || (name === parameter && !has(prefixed)) ? base : prefixed;
    };
    const [rule, filled] = this.ruleOf(name);
    const runs = rule.runs(shape, { key: (pattern) => full(fill(pattern, filled)), has });
    const fused = full(name);
    return has(fused) && !runs.some(({ key }) => has(key)) ? fusedRuns(runs, fused, shape) : runs;
  }

  /** The parameter of a tensor, without a prefix. Default: the tensor's name. */
  parameterOf(key: string): string {
    const name = this.withoutPrefix(key);
    for (const { parameter, source } of this.rules) {
      for (const pattern of source.tensors) {
        const filled = match(pattern, name);
        if (filled !== null) return fill(parameter, filled);
      }
    }
    return name;
  }

  isUnused(key: string): boolean {
    return this.unused.some((pattern) => match(pattern, this.withoutPrefix(key)) !== null);
  }

  /** The place of a tensor's parameter in the model: an end, the number of a layer, or null for others. */
  placeOf(key: string): 'first' | 'last' | number | null {
    const parameter = this.parameterOf(key);
    const layer = /^model\.layers\.(\d+)\./.exec(parameter);
    if (layer !== null) return Number(layer[1]);
    if (this.firstRank.some((pattern) => match(pattern, parameter) !== null)) return 'first';
    return /^(model\.norm|lm_head)\./.test(parameter) ? 'last' : null;
  }

  private ruleOf(name: string): [Source, readonly string[]] {
    for (const { parameter, source } of this.rules) {
      const filled = match(parameter, name);
      if (filled !== null) return [source, filled];
    }
    return [tensor(name), []];
  }

  private withoutPrefix(name: string): string {
    return name.startsWith(this.prefix) ? name.slice(this.prefix.length) : name;
  }
}

/** The same elements in one stacked tensor, with the rows of the parts in order. */
function fusedRuns(runs: readonly Run[], key: string, shape: readonly number[]): Run[] {
  let first = 0;
  return runs.map((run) => {
    const fused = { ...run, key, shape, first, arrangement: run.arrangement?.transposed ? null : run.arrangement };
    first += run.elements;
    return fused;
  });
}

const compiled = new Map<string, RegExp>();

/** The text of each `*`, or null for no match. `#` is a number. */
function match(pattern: string, name: string): string[] | null {
  let expression = compiled.get(pattern);
  if (expression === undefined) {
    const escaped = pattern.replace(/[.+?^${}()|[\]\\]/g, '\\$&').replaceAll('*', '(.+)');
    expression = new RegExp(`^${escaped.replaceAll('#', '\\d+')}$`);
    compiled.set(pattern, expression);
  }
  return expression.exec(name)?.slice(1) ?? null;
}

function fill(pattern: string, filled: readonly string[]): string {
  let next = 0;
  return pattern.replaceAll('*', () => filled[next++] ?? '*');
}
