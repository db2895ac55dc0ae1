import type { CapturedModel } from './capture/capture.ts';
import type { DType } from './dtype.ts';
import { OpFaultyError, runPart } from './errors.ts';
import type { OpNode } from './graph.ts';
import type { Module } from './nn/module.ts';
import type { OpFacts } from './ops/define-op.ts';
import type { NodeOf } from './ops/index.ts';

/**
 * How a plugin lowers an op for the backend of a platform; `Context` and `Result` are the backend's. Of several that support a node the one with the
 * highest `priority` (default 0) is taken, of equals the first, and any of them before the backend's own.
 */
export interface OpLowering<Context, Result, O = OpFacts> {
  readonly op: O;
  readonly platform: string;
  readonly priority?: number;
  /** Largest difference from the interpreter, relative to the largest value where that is over 1. Default 1e-4; see `verify --ops`. */
  readonly tolerance?: number;
  /** Default: every node of the op. What no lowering supports is decomposed. */
  supports?(node: NodeOf<O>): boolean;
  lower(node: NodeOf<O>, context: Context): Result;
}

/** The lowering that serves a node, of those given for one platform; null where no lowering serves. */
export function chooseLowering<L extends OpLowering<never, unknown>>(lowerings: readonly L[], node: OpNode): L | null {
  const able = lowerings.filter(
    (one) =>
      expectLowering(one).op === node.op &&
      runPart(node.op, `supports for "${one.platform}"`, node.path, () => one.supports?.(node as never)) !== false,
  );
  return able.reduce<L | null>((best, each) => (best === null || (each.priority ?? 0) > (best.priority ?? 0) ? each : best), null);
}

/** @throws OpFaultyError for what a plugin gives instead of a lowering. */
export function expectLowering<L extends OpLowering<never, unknown>>(lowering: L): L {
  const { op, platform, lower } = lowering ?? {};
  if (typeof op === 'function' && typeof platform === 'string' && typeof lower === 'function') return lowering;
  const parts = { op: typeof op, platform: typeof platform, lower: typeof lower };
  const given = Object.entries(parts).map(([name, type]) => `${name} (${type})`);
  const what = `A lowering has ${given.join(', ')}; expected an op of defineOp, a name and a function.`;
  throw new OpFaultyError(typeof op === 'function' ? (op as OpFacts) : null, what);
}

/** A tensor in ordinary memory, as it is given to a program and taken from it. Row-major. */
export interface HostTensor {
  readonly dtype: DType;
  readonly dims: readonly number[];
  readonly data: Float32Array | BigInt64Array | Int32Array | Uint8Array;
}

/** What a runtime input of the model is bound to. */
export type RuntimeBinding =
  /** A value of each step, shared by all runtime inputs of one KV group: the name under which a step passes it. */
  | { readonly kind: 'input'; readonly name: string }
  /** A KV cache that the program owns: one region of `rows` rows a slot. */
  | { readonly kind: 'cache'; readonly rows: number };

export interface CompileOptions {
  /** What each runtime input (path in the model, kind) is bound to. */
  bindRuntimeInput(path: string, kind: string): RuntimeBinding;
  /** Sequences that a cache has room for. */
  kvSlots: number;
  threads?: number;
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

/**
 * A compiled model with its caches. Steps are run one at a time. Results by output name; their `data` stays valid until the next `run` only.
 */
export interface Program extends Disposable {
  run(step: ProgramStep): Promise<Record<string, HostTensor>>;
  /** For metrics and `explain`: graphs compiled, bytes of weights and of caches. */
  readonly facts: { readonly graphs: number; readonly weightBytes: number; readonly cacheBytes: number };
}

/**
 * Turns a captured model into something that runs. Implementations come with a platform's plugin; the interpreter is the oracle for all of them.
 * A program holds the weights that it was compiled with: a model that gets other ones meanwhile does not change what it computes, so that a reload can
 * compile a second program while the first one serves.
 */
export interface Backend {
  readonly name: string;
  compile(model: CapturedModel, options: CompileOptions): Promise<Program>;
  /** The lowering that it has for a node; null when the op is decomposed. For `verify --ops`; a backend without it is held to 1e-4. */
  loweringOf?(node: OpNode): Pick<OpLowering<never, unknown>, 'platform' | 'tolerance'> | null;
}

/**
 * Compiles for static shapes, as devices do whose compiler wants to know every size: a bucket at a time, regions once for all layers that share them.
 * Weights are inputs of the graphs, so that other weights need no other graph.
 */
export interface StaticBackend {
  readonly name: string;
  /** Takes the model's weights over and makes room for its caches; nothing is compiled yet. */
  open(model: Module, options: StaticOptions): Promise<StaticProgram>;
}

export interface StaticOptions extends CompileOptions {
  /** Where compiled graphs are kept for the next start; null: nowhere. */
  recipeDirectory: string | null;
}

/** The graphs of one model at the buckets added so far. They share weights, caches and the graphs of regions. Steps are run one at a time. */
export interface StaticProgram extends Disposable {
  has(bucket: string): boolean;
  /** Whether `add` will find a recipe that an earlier start kept for this model at this bucket, and so need no capture. */
  hasRecipe(bucket: string): boolean;
  /** Makes a bucket ready to run: from its recipe, or else by compiling what `capture` gives. */
  add(bucket: string, capture: () => CapturedModel, signal?: AbortSignal): Promise<void>;
  /** As `Program.run`, with the graph of a bucket that was added; `step` has its exact shape. */
  run(bucket: string, step: ProgramStep): Promise<Record<string, HostTensor>>;
  /** Copies the values that the model's weights have now over the old ones, in the same memory. No step may run meanwhile. */
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
