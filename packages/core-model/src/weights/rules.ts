/** A matrix within a tensor whose rows, or columns where it is transposed, stand in another order in the parameter. */
export interface Arrangement {
  /** Of the matrix in the tensor. */
  readonly rows: number;
  readonly columns: number;
  readonly transposed: boolean;
  /** For each row of the parameter the row, or column, of the matrix. */
  readonly order: readonly number[];
}

/** Consecutive elements of a parameter, and where they lie in a tensor: `elements` from `first` on, in the tensor's order unless arranged. */
export interface Run {
  readonly key: string;
  /** Of the whole tensor. */
  readonly shape: readonly number[];
  readonly first: number;
  readonly elements: number;
  readonly arrangement: Arrangement | null;
}

/** The name that is being looked up, as its source sees it. */
interface Lookup {
  /** A tensor's key, its `*` filled in from the parameter's name. */
  key(pattern: string): string;
  has(key: string): boolean;
}

/** Where a parameter comes from: a function from its shape to runs, each element once, so that it can be followed in both directions. */
export interface Source {
  /** Patterns of the tensors that it may take. `#` is an expert's number. */
  readonly tensors: readonly string[];
  runs(shape: readonly number[], lookup: Lookup): Run[];
}

type SourceLike = Source | string;

const product = (dims: readonly number[]): number => dims.reduce((all, dim) => all * dim, 1);

/** A tensor as it is. A plain string means the same. */
export function tensor(pattern: string): Source {
  return {
    tensors: [pattern],
    runs: (shape, { key }) => [{ key: key(pattern), shape, first: 0, elements: product(shape), arrangement: null }],
  };
}

const sourceOf = (source: SourceLike): Source => (typeof source === 'string' ? tensor(source) : source);

/**
 * Joined along an axis, in this order.
 * @param sizes of each part on that axis; equal ones unless given.
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

/** Some rows of a tensor that holds several parameters: `rows` from `start` on, of `total`. The other way round from `stack`. */
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

/** The last two axes exchanged. */
export function transposed(pattern: string): Source {
  return matrices(pattern, true, (row) => row);
}

/** Rows in another order. @param from the row of the tensor that becomes this row of the parameter; a bijection. */
export function reordered(pattern: string, from: (row: number) => number): Source {
  return matrices(pattern, false, from);
}

/** `reordered` for a head's rows: pairs that are rotated together stand next to each other here, and half a head apart in the tensor. */
export const pairsFromHalves = (headDim: number) => (row: number) =>
  row - (row % headDim) + (row % 2) * (headDim / 2) + Math.floor((row % headDim) / 2);

/** The inverse of `pairsFromHalves`. */
export const halvesFromPairs = (headDim: number) => (row: number) => {
  const half = headDim / 2;
  return row - (row % headDim) + (row % half) * 2 + Math.floor((row % headDim) / half);
};

function matrices(pattern: string, isTransposed: boolean, from: (row: number) => number): Source {
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

/** The first of which the checkpoint has a tensor; the first of all where it has none, and when it is written. */
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

/** The elements `from` to `to` of what these runs make up; arranged ones are cut between rows. */
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
  /** Stands before the names of parameters, tensors or both where the model is a part of a larger one: `language_model.`. */
  prefix?: string;
  /** Patterns of tensors that a checkpoint may have and the model has no use for. */
  unused?: readonly string[];
  /** Patterns of parameters that the first pipeline rank has besides the embedding. */
  firstRank?: readonly string[];
}

/**
 * How a layout's tensors become a family's parameters: for each pattern of parameters its source; the first that matches counts, and a parameter that
 * none matches has a tensor of its own name. `*` is any run of characters, the same on both sides. One set serves loading, reloading, ranks, errors and
 * writing. A tensor of exactly the parameter's name is taken as it is where the source's tensors are not there (a fused `qkv_proj`).
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

  /** Where the elements of a parameter lie, in its row-major order. @param has whether the checkpoint has a tensor; none when one is written. */
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

  /** The parameter that a tensor belongs to, without a prefix; the tensor's own name where no rule says another. */
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

  /** Where in the model a tensor's parameter is: at one of its ends, or in a layer; null for another. */
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

/** The same elements in one tensor that is stacked already, its rows in the order of the parts. */
function fusedRuns(runs: readonly Run[], key: string, shape: readonly number[]): Run[] {
  let first = 0;
  return runs.map((run) => {
    const fused = { ...run, key, shape, first, arrangement: run.arrangement?.transposed ? null : run.arrangement };
    first += run.elements;
    return fused;
  });
}

const compiled = new Map<string, RegExp>();

/** What `*` stands for in each place, or null. `#` is a number. */
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
