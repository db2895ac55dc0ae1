import { type Disposables, DisposedError } from '@graft/common';
import { type Graph as GgmlGraph, GgmlUnsupportedError, type GraphMemory, type Stream, Tensor } from '@graft/ggml';
import {
  type CacheMove,
  type Graph,
  type GraphInput,
  type HostTensor,
  type NodeOf,
  OpFaultyError,
  type OpNode,
  ops,
  type Program,
  ProgramBusyError,
  ProgramInputError,
  type ProgramStep,
  type RuntimeBinding,
  runPart,
  Sizes,
  type Value,
} from '@graft/graph';
import type { Cache, CachePlace, Caches } from './caches.ts';
import { GgmlLoweringError } from './errors.ts';
import { queriesAgree, startsOf } from './lower-attention.ts';
import { type GraphSource, LoweringContext } from './lowering-context.ts';
import type { GgmlLowering } from './lowerings.ts';
import type { Weights } from './weights.ts';

/** The most graphs that are kept unless the parts say another number. */
const fewGraphs = 64;

const arrays = { float32: Float32Array, int64: BigInt64Array, int32: Int32Array, bool: Uint8Array } as const;

/** The inputs of attention that a step is checked by. */
interface AttentionGroup {
  readonly path: string;
  readonly starts: string;
  readonly query: Value;
  readonly rows: number;
}

/** A graph for one shape, with the room for its outputs. */
interface BuiltGraph {
  readonly graph: GgmlGraph;
  readonly sources: readonly GraphSource[];
  readonly outputs: readonly { name: string; tensor: Tensor; values: Float32Array; result: HostTensor }[];
}

export interface GgmlProgramParts {
  /** Without regions; each op has a lowering. */
  graph: Graph;
  stream: Stream;
  memory: GraphMemory;
  weights: Weights;
  caches: Caches;
  kvSlots: number;
  /** The most graphs that are kept, one for each shape. The least recently used one is dropped. */
  maxGraphs?: number;
  bindingOf(path: string, kind: string): RuntimeBinding;
  loweringFor(node: OpNode): GgmlLowering;
  /** The program takes them over and disposes them last. */
  resources: Disposables;
}

const attentionsOf = ({ nodes }: Graph): NodeOf<typeof ops.attention>[] =>
  nodes.filter((node) => node.kind === 'op' && node.op === ops.attention) as never;

/** A model on ggml, with its weights and KV caches. */
export class GgmlProgram implements Program {
  readonly facts: Program['facts'];
  readonly rowsMayAgree: boolean;
  private readonly parts: GgmlProgramParts;
  private readonly resources: Disposables;
  private readonly inputs: readonly GraphInput[];
  private readonly caches: ReadonlyMap<Value, Cache>;
  private readonly groups: readonly AttentionGroup[];
  private readonly graphs = new Map<string, BuiltGraph>();
  private running = false;
  private disposed = false;
  /** Graphs built so far. */
  builds = 0;

  /** Builds the graph for the smallest shape, which reads all weights. @throws GgmlLoweringError, GgmlCallError, ParameterWithoutStorageError */
  constructor(parts: GgmlProgramParts) {
    const { graph, bindingOf, resources, weights, caches } = parts;
    this.parts = parts;
    const bound = graph.runtimeInputs.flatMap(({ path, kind, value }) => {
      const binding = bindingOf(path, kind);
      return binding.kind === 'input' ? [{ name: binding.name, value }] : [];
    });
    this.inputs = [...graph.inputs, ...bound];
    this.caches = caches.of(graph);
    this.groups = this.attentionGroups();
    this.rowsMayAgree = attentionsOf(graph).every((node) => queriesAgree(node, this.caches.get(node.inputs.valueCache)));
    const step = this.smallestStep();
    this.graphFor(step, this.sizesOf(step));
    this.facts = { graphs: 1, weightBytes: weights.bytes, cacheBytes: caches.bytes };
    resources.defer(() => {
      for (const { graph: built } of this.graphs.values()) built[Symbol.dispose]();
    });
    this.resources = resources.move();
  }

  /**
   * Runs off the event loop. After an abort the caches of these slots are partly written.
   * @throws ProgramInputError before anything runs; ProgramBusyError; DisposedError; GgmlCallError; the signal's reason
   */
  async run(step: ProgramStep): Promise<Record<string, HostTensor>> {
    this.assertUsable();
    if (this.running) throw new ProgramBusyError();
    step.signal?.throwIfAborted();
    const { graph, sources, outputs } = this.graphFor(step, this.sizesOf(step));
    const values = new Map(sources.map(({ tensor, fill }) => [tensor, fill(step)]));
    this.running = true;
    try {
      await this.parts.stream.compute(graph, values, step.signal);
    } finally {
      this.running = false;
    }
    this.assertUsable();
    for (const { tensor, values: room, result } of outputs) {
      graph.read(tensor, room);
      if (result.data instanceof BigInt64Array) for (const [i, value] of room.entries()) result.data[i] = BigInt(value);
      else if (result.data !== room) result.data.set(room);
    }
    return Object.fromEntries(outputs.map(({ name, result }) => [name, result]));
  }

  /** See `Program`. @throws ProgramBusyError during a run; DisposedError */
  moveCacheRows(moves: readonly CacheMove[]): void {
    this.assertIdle();
    for (const move of moves) this.parts.caches.moveRows(move);
  }

  /**
   * A copy of rows of a cache, between runs: `[count, heads * headDim]` in the cache's element type.
   * @throws ProgramInputError for a place that no cache has; ProgramBusyError during a run; DisposedError
   */
  readCacheRows(place: CachePlace & { readonly count: number }): Uint8Array {
    this.assertIdle();
    return this.parts.caches.read(place);
  }

  /**
   * Writes rows that another library computed, such as those of a prompt, so that the next run continues from them. `data` is `[count, heads * headDim]` in the
   * cache's element type; keys are turned by their positions already.
   * @throws ProgramInputError for a place that no cache has; ProgramBusyError during a run; DisposedError
   */
  writeCacheRows(place: CachePlace, data: Uint8Array): void {
    this.assertIdle();
    this.parts.caches.write(place, data);
  }

  /** May be called twice, and during a run, which then rejects. Native memory is freed when the run ends. */
  [Symbol.dispose](): void {
    if (this.disposed) return;
    this.disposed = true;
    this.resources[Symbol.dispose]();
  }

  /**
   * Builds the graphs for all lengths of the caches, of a program whose other sizes are fixed, unless they are there. The longest come first, since they set the
   * memory.
   */
  buildAll(): void {
    if (this.graphs.size > 1 && [...this.graphs.values()].every(({ graph }) => graph.isCurrent)) return;
    const step = this.smallestStep();
    const sizes = this.sizesOf(step);
    for (const starts of this.startsOfLengths(sizes)) {
      const inputs = { ...step.inputs };
      for (const [name, start] of starts) {
        const { data, ...tensor } = inputs[name]!;
        inputs[name] = { ...tensor, data: new Int32Array(data.length).fill(start) };
      }
      this.graphFor({ ...step, inputs }, sizes);
    }
  }

  /** Starts of the queries, by input, that make each group of caches read each of its lengths. A sequence is nowhere longer than in its longest cache. */
  private startsOfLengths(sizes: Sizes): ReadonlyMap<string, number>[] {
    let lists: { length: number; starts: ReadonlyMap<string, number> }[] = [{ length: Number.POSITIVE_INFINITY, starts: new Map() }];
    for (const { starts: name, query, rows } of [...this.groups].sort((a, b) => b.rows - a.rows)) {
      const queries = sizes.evaluate(query.dims[1]!);
      const lengths: number[] = [];
      for (let used = queries; used <= rows; used = lengths.at(-1)! + 1) lengths.push(this.parts.caches.rowsRead(used, rows));
      lists = lists.flatMap(({ length: most, starts }) =>
        lengths
          .filter((length) => length <= most)
          .reverse()
          .map((length) => ({ length: Math.min(most, length), starts: new Map([...starts, [name, length - queries]]) })),
      );
    }
    return lists.map(({ starts }) => starts);
  }

  private assertIdle(): void {
    this.assertUsable();
    if (this.running) throw new ProgramBusyError();
  }

  private assertUsable(): void {
    if (this.disposed) throw new DisposedError('The program');
  }

  /** Each attention's caches and where their rows begin. */
  private attentionGroups(): AttentionGroup[] {
    const names = new Map(this.inputs.map(({ name, value }) => [value, name]));
    const groups = new Map<string, AttentionGroup>();
    for (const node of attentionsOf(this.parts.graph)) {
      const { queryStart, query, keyCache } = node.inputs;
      const starts = names.get(queryStart);
      const cache = this.caches.get(keyCache);
      if (starts === undefined || cache === undefined)
        throw new GgmlLoweringError(
          "The attention's queryStart must be an input of the step, and its caches must be bound as caches.",
          node.path,
        );
      groups.set(`${starts} ${cache.rows}`, { path: node.path, starts, query, rows: cache.rows });
    }
    return [...groups.values()];
  }

  /** One token of one sequence, where the graph has symbols for these. */
  private smallestStep(): ProgramStep {
    const inputs = this.inputs.map(({ name, value: { dtype, dims } }): [string, HostTensor] => {
      const sizes = dims.map((dim) => dim.evaluate(() => 1));
      const count = sizes.reduce((product, size) => product * size, 1);
      return [name, { dtype, dims: sizes, data: new arrays[dtype](count) }];
    });
    const [cache] = this.caches.keys();
    return { firstSlot: 0, batch: cache === undefined ? 1 : cache.dims[0]!.evaluate(() => 1), inputs: Object.fromEntries(inputs) };
  }

  /** Checks a step, and finds the sizes of its symbols. @throws ProgramInputError */
  private sizesOf(step: ProgramStep): Sizes {
    const { firstSlot, batch, inputs } = step;
    const { kvSlots, graph } = this.parts;
    if (!Number.isSafeInteger(firstSlot) || !Number.isSafeInteger(batch) || firstSlot < 0 || batch < 1 || firstSlot + batch > kvSlots)
      throw new ProgramInputError(
        `The step uses slots ${firstSlot} to ${firstSlot + batch - 1}; the program has ${kvSlots}.`,
        'firstSlot and batch',
      );
    const sizes = new Sizes();
    for (const { name, value } of this.inputs) {
      const tensor = inputs[name];
      if (tensor === undefined) throw new ProgramInputError('The input is missing.', `input "${name}"`);
      sizes.bindTensor(tensor, value, `input "${name}"`);
    }
    for (const { path, value } of graph.runtimeInputs)
      if (this.caches.has(value)) sizes.bind(value.dims[0]!, batch, `step.batch, for cache ${path}`);
    for (const { path, starts, query, rows } of this.groups) {
      const queries = sizes.evaluate(query.dims[1]!);
      const wrong = startsOf(step, starts).find((start) => start < 0 || start + queries > rows);
      if (wrong !== undefined)
        throw new ProgramInputError(
          `Rows ${wrong} to ${wrong + queries} are needed; the cache has ${rows}.`,
          `attention at ${path}, "${starts}"`,
        );
    }
    return sizes;
  }

  private graphFor(step: ProgramStep, sizes: Sizes): BuiltGraph {
    const shapes = this.inputs.map(({ value }) => value.dims.map((dim) => sizes.evaluate(dim)).join('x'));
    const read = this.groups.map(({ starts, query, rows }) =>
      this.parts.caches.rowsRead(Math.max(...startsOf(step, starts)) + sizes.evaluate(query.dims[1]!), rows),
    );
    const key = [step.batch, ...read, ...shapes].join(' ');
    const known = this.graphs.get(key);
    const built = known?.graph.isCurrent === true ? known : this.build(step, sizes);
    this.graphs.delete(key);
    this.graphs.set(key, built); // as the latest
    for (const [old, { graph }] of this.graphs) {
      if (graph.isCurrent && this.graphs.size <= (this.parts.maxGraphs ?? fewGraphs)) continue;
      this.graphs.delete(old);
      graph[Symbol.dispose]();
    }
    if (known !== undefined && known !== built) known.graph[Symbol.dispose]();
    return built;
  }

  private build(step: ProgramStep, sizes: Sizes): BuiltGraph {
    this.builds += 1;
    const { graph, weights, caches, memory, stream } = this.parts;
    const context = new LoweringContext({ device: stream.device, weights, caches, cacheOf: this.caches, sizes, step });
    try {
      for (const input of this.inputs) context.input(input);
      for (const slot of graph.weights) context.weight(slot);
      for (const node of graph.nodes as readonly OpNode[]) this.lower(node, context);
      const tensors = graph.outputs.map(({ value }) => {
        const tensor = context.packed(context.tensor(value));
        const isOwn = context.isComputed(value);
        return isOwn ? tensor : context.builder.scale(tensor, 1);
      });
      const built = context.builder.build([...new Set(tensors)], memory, titleOf(step));
      const outputs = graph.outputs.map(({ name, value }, i) => {
        const values = new Float32Array(tensors[i]!.elements);
        const data = value.dtype === 'float32' ? values : new arrays[value.dtype](values.length);
        return { name, tensor: tensors[i]!, values, result: { dtype: value.dtype, dims: context.dims(value), data } };
      });
      return { graph: built, sources: context.sources, outputs };
    } catch (error) {
      context.builder[Symbol.dispose]();
      throw error;
    }
  }

  private lower(node: OpNode, context: LoweringContext): void {
    const { op, path, outputs } = node;
    context.path = path;
    const lowering = this.parts.loweringFor(node);
    const results = runPart(op, `lowering for "${lowering.platform}"`, path, () => {
      try {
        return lowering.lower(node as never, context);
      } catch (error) {
        if (!(error instanceof GgmlUnsupportedError)) throw error;
        throw new GgmlLoweringError(`The lowering of "${op.name}" failed. ${error.what} (${error.where})`, path);
      }
    });
    for (const [i, value] of outputs.slice(0, outputs.length - op.inPlaceOf.length).entries()) {
      const result = results[i];
      if (result === undefined) throw new OpFaultyError(op, `Its lowering gave ${results.length} results.`, path);
      if ('dtype' in result) {
        context.alias(value, result);
        continue;
      }
      const pieces = result instanceof Tensor ? [result] : result;
      const elements = pieces.reduce((sum, piece) => sum + piece.elements, 0);
      if (elements !== context.count(value))
        throw new OpFaultyError(op, `Its lowering gave ${pieces.join(' and ')}, expected ${context.count(value)} elements.`, path);
      context.set(value, pieces);
    }
  }
}

function titleOf({ batch, inputs }: ProgramStep): string {
  const shapes = Object.entries(inputs).map(([name, { dims }]) => `${name} [${dims.join(', ')}]`);
  return `a step of batch ${batch} with ${shapes.join(', ')}`;
}
