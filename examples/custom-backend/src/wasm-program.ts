import { DisposedError } from '@graft/common';
import type { HostTensor, Program, ProgramStep } from '@graft/graph';
import { checkStep, type ExportedGraph } from '@graft/onnx-export';
import { type InferenceSession, Tensor } from 'onnxruntime-web';
import { KvCache } from './kv-cache.ts';

interface WasmProgramParts {
  session: InferenceSession;
  exported: ExportedGraph;
  kvSlots: number;
  weightBytes: number;
}

/** A session and its KV caches, which lie in JavaScript's memory: ONNX Runtime Web binds none, so that each step carries them in and out. */
export class WasmProgram implements Program {
  readonly facts: Program['facts'];
  private readonly parts: WasmProgramParts;
  private readonly caches: readonly KvCache[];
  private lastRun: Promise<unknown> = Promise.resolve();
  private disposed = false;

  constructor(parts: WasmProgramParts) {
    this.parts = parts;
    this.caches = parts.exported.caches.map((facts) => new KvCache(facts, parts.kvSlots));
    const cacheBytes = this.caches.reduce((sum, { bytes }) => sum + bytes, 0);
    this.facts = { graphs: 1, weightBytes: parts.weightBytes, cacheBytes };
  }

  /**
   * Computes on this thread, and does not stop for a signal once it has begun.
   * @throws ProgramInputError before anything runs; DisposedError; the signal's reason.
   */
  async run(step: ProgramStep): Promise<Record<string, HostTensor>> {
    if (this.disposed) throw new DisposedError('The program');
    const { session, exported, kvSlots } = this.parts;
    checkStep(exported, step, kvSlots); // the kernel trusts the lengths that it is given
    step.signal?.throwIfAborted();
    const { firstSlot, batch } = step;
    const feeds: Record<string, Tensor> = {};
    for (const { name } of exported.inputs) feeds[name] = tensorOf(step.inputs[name]!);
    for (const cache of this.caches) {
      const { data, dims } = cache.take(firstSlot, batch, this.lengthOf(cache, step));
      feeds[cache.facts.input] = new Tensor('float32', data, dims);
    }
    const running = session.run(feeds);
    this.lastRun = running.catch(() => {}); // who called sees the failure
    const results = await running;
    for (const cache of this.caches) {
      cache.put(firstSlot, batch, this.lengthOf(cache, step), results[cache.facts.output]!.data as Float32Array);
    }
    return Object.fromEntries(exported.outputs.map(({ name, tensor, dtype }) => [name, { ...hostTensor(results[tensor]!), dtype }]));
  }

  /** Twice without harm; during a run, the session goes when the run has ended. */
  [Symbol.dispose](): void {
    if (this.disposed) return;
    this.disposed = true;
    this.lastRun = this.lastRun.then(() => this.parts.session.release());
  }

  /** Rows that a step uses of a cache, with those that it adds. Caches of as many rows belong to one KV group. */
  private lengthOf({ facts }: KvCache, { inputs }: ProgramStep): number {
    const group = this.parts.exported.groups.find(({ rows }) => rows === facts.dims[1])!;
    return Number(inputs[group.totalLength!]!.data[0]);
  }
}

function tensorOf({ dtype, data, dims }: HostTensor): Tensor {
  return new Tensor(dtype, data as Float32Array, dims) as Tensor;
}

function hostTensor({ data, dims }: Tensor): Pick<HostTensor, 'data' | 'dims'> {
  return { data: data as HostTensor['data'], dims };
}
