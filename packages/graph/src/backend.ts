import { kindOf } from '@graft/common';
import type { CapturedModel } from './capture/capture.ts';
import type { DType } from './dtype.ts';
import { OpFaultyError, runPart } from './errors.ts';
import type { OpNode } from './graph.ts';
import type { Module } from './nn/module.ts';
import type { OpFacts } from './ops/define-op.ts';
import type { NodeOf } from './ops/index.ts';

/**
 * How a plugin lowers an op for the backend of a platform; `Context` and `Result` are the backend's. Among lowerings that support a node, the highest
 * `priority` (default 0) wins, then the first. A plugin's lowering comes before the backend's own.
 */
export interface OpLowering<Context, Result, O = OpFacts> {
  readonly op: O;
  readonly platform: string;
  readonly priority?: number;
  /** Largest difference from the interpreter, relative to the largest value where that is over 1. Default 1e-4; see `verify --ops`. */
  readonly tolerance?: number;
  /** Default: every node of the op. A node that no lowering supports is decomposed. */
  supports?(node: NodeOf<O>): boolean;
  lower(node: NodeOf<O>, context: Context): Result;
}

/** The lowering that serves a node, of those for one platform; null if none serves. */
export function chooseLowering<L extends OpLowering<never, unknown>>(lowerings: readonly L[], node: OpNode): L | null {
  const able = lowerings.filter(
    (one) =>
      expectLowering(one).op === node.op &&
      runPart(node.op, `supports for "${one.platform}"`, node.path, () => one.supports?.(node as never)) !== false,
  );
  return able.reduce<L | null>((best, each) => (best === null || (each.priority ?? 0) > (best.priority ?? 0) ? each : best), null);
}

/** Describes a value that is not a lowering; null for one that is. */
export function loweringMisfit(value: unknown): string | null {
  const { op, platform, lower } = (value ?? {}) as Record<string, unknown>;
  if (typeof op === 'function' && typeof platform === 'string' && typeof lower === 'function') return null;
  const given = Object.entries({ op, platform, lower }).map(([name, part]) => `${name} (${kindOf(part)})`);
  return `a lowering with ${given.join(', ')}; expected an op such as ops.rmsNorm, the name of a platform and a function`;
}

/** The lowerings of plugins for a platform, whose backend knows what `L` is. @throws OpFaultyError for what is no lowering */
export function loweringsFor<L extends OpLowering<never, unknown>>(
  platform: string,
  given: readonly OpLowering<never, unknown>[],
): readonly L[] {
  return given.filter((lowering) => expectLowering(lowering).platform === platform) as L[];
}

/** Checks a plugin's lowering. @throws OpFaultyError */
export function expectLowering<L extends OpLowering<never, unknown>>(lowering: L): L {
  const given = loweringMisfit(lowering);
  if (given === null) return lowering;
  const op: unknown = lowering?.op;
  throw new OpFaultyError(typeof op === 'function' ? (op as unknown as OpFacts) : null, `It is ${given}.`);
}

/** A tensor in ordinary memory, as a program takes and returns it. Row-major. */
export interface HostTensor {
  readonly dtype: DType;
  readonly dims: readonly number[];
  readonly data: Float32Array | BigInt64Array | Int32Array | Uint8Array;
}

/** The binding of a runtime input of the model. */
export type RuntimeBinding =
  /** A value of each step, shared by all runtime inputs of one KV group. `name` is its name in the step. */
  | { readonly kind: 'input'; readonly name: string }
  /** A KV cache that the program owns: `rows` rows for each slot. */
  | { readonly kind: 'cache'; readonly rows: number };

export interface CompileOptions {
  /** The binding of each runtime input, by its path in the model and its kind. */
  bindRuntimeInput(path: string, kind: string): RuntimeBinding;
  /** Number of sequences that a cache has room for. */
  kvSlots: number;
  threads?: number;
  /** The options of the platform (`--platform-options`), which its `checkOptions` has accepted. */
  platformOptions?: Readonly<Record<string, unknown>>;
  signal?: AbortSignal;
  onProgress?(fraction: number, message: string): void;
}

export interface ProgramStep {
  /** Row i of the batch uses the caches of slot `firstSlot + i`: a batch is one contiguous group, nothing is copied. */
  readonly firstSlot: number;
  readonly batch: number;
  /** The graph's inputs and the runtime inputs bound as `input`, by name. */
  readonly inputs: Readonly<Record<string, HostTensor>>;
  readonly signal?: AbortSignal;
}

/** Rows `from` to `from + count` of one slot's cache, which are copied to its start. */
export interface CacheMove {
  /** Of the runtime input that is bound to the cache. */
  readonly path: string;
  readonly slot: number;
  readonly from: number;
  readonly count: number;
}

/** Moves rows of each head to its start. `slot [heads, rows, width]` is one slot of a cache. */
export function moveRows(slot: HostTensor['data'], [heads, rows, width]: readonly number[], { from, count }: CacheMove): void {
  for (let head = 0; head < heads!; head++) {
    const at = head * rows! * width!;
    slot.copyWithin(at, at + from * width!, at + (from + count) * width!);
  }
}

interface MovesCacheRows {
  /** Copies rows within caches, between runs. See `Backend.movesCacheRows`. */
  moveCacheRows?(moves: readonly CacheMove[]): void;
}

/**
 * A compiled model with its caches. Steps run one at a time. Results are by output name; their `data` is valid until the next `run`.
 */
export interface Program extends MovesCacheRows, Disposable {
  run(step: ProgramStep): Promise<Record<string, HostTensor>>;
  /**
   * Whether a runner may ask how many tokens a run can have so that each one's logits are, bit for bit, those of a run of one token. It measures that with a short
   * context; so this is true only if no kernel of attention is chosen by the number of queries or by the length of the context. Default: false.
   */
  readonly rowsMayAgree?: boolean;
  /** For metrics and `explain`: graphs compiled, bytes of weights and of caches. */
  readonly facts: { readonly graphs: number; readonly weightBytes: number; readonly cacheBytes: number };
}

/** The version of `Backend`: a number more for each change that an implementation must follow. */
export const backendContract = 1;

/**
 * Turns a captured model into a program. A platform's plugin brings the implementation; the interpreter is the oracle for all of them.
 * A program keeps the weights that it was compiled with, even if the model gets others. So a reload can compile a second program while the first one serves.
 */
export interface Backend {
  /** The version of this interface that it was written for; another one is refused. Default: the present one. */
  readonly contract?: typeof backendContract;
  readonly name: string;
  /** Whether its programs have `moveCacheRows`. Without it, a layer with a window has a cache for whole sequences. */
  readonly movesCacheRows?: boolean;
  compile(model: CapturedModel, options: CompileOptions): Promise<Program>;
  /** The backend's lowering of a node; null when the op is decomposed. `verify --ops` holds a backend without this method to 1e-4. */
  loweringOf?(node: OpNode): Pick<OpLowering<never, unknown>, 'platform' | 'tolerance'> | null;
}

/**
 * Compiles for static shapes, for devices whose compiler must know every size: one bucket at a time, and a region once for all layers that share it.
 * Weights are inputs of the graphs, so new weights need no new graph.
 */
export interface StaticBackend {
  readonly name: string;
  /** As `Backend.movesCacheRows`. */
  readonly movesCacheRows?: boolean;
  /** Takes the model's weights and makes room for its caches. Compiles nothing yet. */
  open(model: Module, options: StaticOptions): Promise<StaticProgram>;
}

export interface StaticOptions extends CompileOptions {
  /** The folder of compiled graphs for the next start; null keeps none. */
  recipeDirectory: string | null;
}

/** The graphs of one model at the buckets added so far. They share weights, caches and the graphs of regions. Steps run one at a time. */
export interface StaticProgram extends MovesCacheRows, Disposable {
  has(bucket: string): boolean;
  /** Whether an earlier start kept a recipe for this model at this bucket, so that `add` needs no capture. */
  hasRecipe(bucket: string): boolean;
  /** Makes a bucket ready to run, from its recipe or by compiling the result of `capture`. */
  add(bucket: string, capture: () => CapturedModel, signal?: AbortSignal): Promise<void>;
  /** Like `Program.run`, with the graph of an added bucket; `step` has its exact shape. */
  run(bucket: string, step: ProgramStep): Promise<Record<string, HostTensor>>;
  /** Copies the current values of the model's weights over the old ones, in the same memory. No step may run meanwhile. */
  updateWeights(): void;
  readonly facts: StaticFacts;
}

export interface StaticFacts {
  /** Distinct compiled graphs. */
  readonly graphs: number;
  /** Graphs that were optimised in this process; those from recipes were not. */
  readonly optimisations: number;
  /** Buckets that came from recipes. */
  readonly recipes: number;
  readonly weightBytes: number;
  readonly cacheBytes: number;
}
