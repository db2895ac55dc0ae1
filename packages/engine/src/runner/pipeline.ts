import { Disposables } from '@graft/common';
import type { LanguageModel, ModelContext, ModelOutput } from '@graft/core-model';
import {
  type Backend,
  CaptureCache,
  type CapturedModel,
  captureModel,
  Dim,
  type HostTensor,
  type Program,
  SymbolicTensor,
  type Tensor,
} from '@graft/graph';
import { EngineConfigError } from '../errors.ts';
import { KvCachePlan } from '../kv-cache.ts';
import { stepInputs, stepOutputs } from './capture-language-model.ts';
import type { RunResult, RunStep } from './model-runner.ts';
import { runResult, stepTensors } from './program-step.ts';

/** The layers of one pipeline rank: a model that was built with `context.pipeline`, its weights loaded and its hooks run. */
export interface PipelineRank {
  readonly model: LanguageModel;
  readonly context: ModelContext;
}

/**
 * One rank's part of a step as a graph, for any shape. Inputs as those of `captureLanguageModel`; every rank but the first also takes `hidden_states` and
 * `residual` `[batch, sequence, hidden]`, float32, which every rank but the last gives. The last gives `logits [outputRows, vocabulary]` and alone takes
 * `logitsIndices`. Each gives the `auxHiddenStates.<i>` of its own layers.
 */
export function capturePipelineStage({ model, context }: PipelineRank, cache: CaptureCache): CapturedModel {
  const { rank, size } = context.pipeline;
  const { logitsIndices, ...tokens } = stepInputs;
  const handed = { dtype: 'float32', dims: [...tokens.inputIds.dims, Dim.of(context.config.hiddenSize)] } as const;
  const isLast = rank === size - 1;
  return captureModel(model, {
    cache,
    batch: tokens.inputIds.dims[0],
    inputs: { ...tokens, ...(isLast && { logitsIndices }), ...(rank > 0 && { hidden_states: handed, residual: handed }) },
    call(proxy, given: Readonly<Record<string, Tensor>>) {
      const before = rank === 0 ? null : { hidden_states: given['hidden_states']!, residual: given['residual']! };
      const output = proxy.forward(given['inputIds']!, given['positions']!, before, null);
      return isLast ? stepOutputs(proxy, output, given['logitsIndices']!) : handOver(output, context);
    },
  });
}

function handOver(output: ModelOutput, { pipeline: { rank, size } }: ModelContext): Record<string, unknown> {
  const [result, auxHiddenStates] = Array.isArray(output) ? output : [output, []];
  if (!(result instanceof SymbolicTensor)) return { hidden_states: result.hidden_states, residual: result.residual, auxHiddenStates };
  throw new EngineConfigError(
    `Rank ${rank} of ${size} gave hidden states alone: it was built as the last one.`,
    'pipeline',
    'build each rank with its own ModelContext.pipeline.',
  );
}

/** One rank at work: its graph, its own KV caches. */
interface Stage {
  readonly captured: CapturedModel;
  readonly kvCache: KvCachePlan;
  readonly program: Program;
}

/**
 * Runs the ranks of a pipeline in one process, one after the other: each has a program and caches of its own, and takes what the one before gave. Its
 * results are those of the whole model.
 */
export class PipelineRunner implements Disposable {
  private readonly stages: readonly Stage[];
  private readonly owned: Disposables;

  private constructor(stages: readonly Stage[], owned: Disposables) {
    this.stages = stages;
    this.owned = owned;
  }

  /**
   * @param ranks all of them, in their order.
   * @param kvSlots sequences that the caches have room for.
   * @throws EngineConfigError when they are not the ranks 0 to n - 1 of n; what `Backend.compile` throws.
   */
  static async open(
    ranks: readonly PipelineRank[],
    backend: Backend,
    { kvSlots, threads, signal }: { kvSlots: number; threads?: number; signal?: AbortSignal },
  ): Promise<PipelineRunner> {
    checkOrder(ranks);
    using owned = new Disposables();
    const stages: Stage[] = [];
    for (const rank of ranks) {
      const captured = capturePipelineStage(rank, new CaptureCache());
      const kvCache = new KvCachePlan(rank.model, rank.context.maxModelLength);
      const given = { ...(threads !== undefined && { threads }), ...(signal !== undefined && { signal }) };
      const program = await backend.compile(captured, { kvSlots, bindSlot: (path, kind) => kvCache.bindSlot(path, kind), ...given });
      stages.push({ captured, kvCache, program: owned.use(program) });
    }
    return new PipelineRunner(stages, owned.move());
  }

  /** Graphs captured of a region, such as `decoder-layer`, rank by rank: ranks share none. */
  captures(region: string): number[] {
    return this.stages.map(({ captured }) => captured.cache.count(region));
  }

  /** Tokens that may be computed in one run after `computed` ones: the least of any rank. */
  roomAfter(computed: number): number {
    return Math.min(...this.stages.map(({ kvCache }) => kvCache.roomAfter(computed)));
  }

  /** As `ModelRunner.run`, for tokens alone; auxiliary hidden states of all ranks, in the order of the layers. */
  async run(step: RunStep): Promise<RunResult> {
    const { firstSlot, rows, signal } = step;
    const auxHiddenStates: Float32Array[] = [];
    let handed: Readonly<Record<string, HostTensor>> = {};
    for (const { captured, kvCache, program } of this.stages) {
      const inputs = stageInputs(captured, { ...stepTensors(step, kvCache.groups), ...handed });
      const outputs = await program.run({ firstSlot, batch: rows.length, inputs, ...(signal !== undefined && { signal }) });
      auxHiddenStates.push(...auxHiddenStatesOf(outputs));
      handed = outputs;
    }
    return { ...runResult(handed), auxHiddenStates };
  }

  [Symbol.dispose](): void {
    this.owned[Symbol.dispose]();
  }
}

/** A stage takes what its graph reads: only the last one reads `logitsIndices`, and none reads the auxiliary states of another. */
function stageInputs({ graph }: CapturedModel, given: Readonly<Record<string, HostTensor>>): Record<string, HostTensor> {
  const taken = new Set(graph.inputs.map(({ name }) => name));
  const isSlot = (name: string): boolean => name.includes('.') && !name.startsWith('auxHiddenStates.');
  return Object.fromEntries(Object.entries(given).filter(([name]) => taken.has(name) || isSlot(name)));
}

function auxHiddenStatesOf(outputs: Readonly<Record<string, HostTensor>>): Float32Array[] {
  const names = Object.keys(outputs).filter((name) => name.startsWith('auxHiddenStates.'));
  return names.map((_, i) => outputs[`auxHiddenStates.${i}`]!.data as Float32Array);
}

function checkOrder(ranks: readonly PipelineRank[]): void {
  const stages = ranks.map(({ context }) => context.pipeline);
  if (stages.length > 0 && stages.every(({ rank, size }, i) => rank === i && size === stages.length)) return;
  const found = stages.map(({ rank, size }) => `${rank} of ${size}`).join(', ') || 'none';
  throw new EngineConfigError(
    `A pipeline needs all of its ranks in order; given are ${found}.`,
    'pipeline',
    'give rank 0 to the last of them.',
  );
}
