import { Disposables } from '@graft/common';
import { Dim, type HostTensor, ProgramInputError, type ProgramStep } from '@graft/graph';
import { checkStep } from '@graft/onnx-export';
import { type IoBinding, OrtValue, type Session } from '@graft/onnxruntime';
import type { MemoryRegion } from '@graft/system';
import { layOut } from './activations.ts';
import type { BucketPlan, Call, Source, Target } from './bucket-plan.ts';
import type { DeviceCaches } from './device-caches.ts';
import type { DeviceWeights } from './device-weights.ts';

/** The most first slots whose bindings are kept. The least recently used ones are dropped. */
const maxSlots = 32;

export interface DeviceMemory {
  readonly weights: DeviceWeights;
  readonly caches: DeviceCaches;
  readonly kvSlots: number;
  /** Memory of at least this size for activations. All buckets share it, because steps run one at a time. */
  activations(bytes: number): MemoryRegion;
}

/** A bucket that is ready to run: its graphs, bound to weights, activations and caches. */
export class DeviceBucket implements Disposable {
  private readonly plan: BucketPlan;
  private readonly sessions: ReadonlyMap<string, Session>;
  private readonly memory: DeviceMemory;
  private readonly resources = new Disposables();
  private readonly checked: Parameters<typeof checkStep>[0];
  private readonly weightShapes: ReadonlyMap<string, readonly number[]>;
  private readonly inputs: ReadonlyMap<string, OrtValue>;
  private readonly values: readonly OrtValue[];
  /** Bindings of the calls that use no cache. They serve any slot. */
  private readonly anywhere = new Map<Call, IoBinding>();
  private readonly bySlot = new Map<number, ReadonlyMap<Call, IoBinding>>();

  /** @param sessions by graph. @throws StaticDeviceWeightError, StaticDeviceGraphError; OrtNameError for an unknown tensor name */
  constructor(plan: BucketPlan, sessions: ReadonlyMap<string, Session>, memory: DeviceMemory) {
    this.plan = plan;
    this.memory = memory;
    this.sessions = sessions;
    this.checked = checkable(plan);
    this.weightShapes = new Map(plan.weights.map(({ path, shape }) => [path, shape]));
    const layout = layOut(plan);
    const activations = memory.activations(layout.bytes);
    using building = new Disposables();
    const valueAt = ({ dtype, dims }: BucketPlan['values'][number], offset: number): OrtValue =>
      building.use(OrtValue.over(activations, dtype, dims, offset) as OrtValue);
    for (const cache of plan.caches) memory.caches.add(cache);
    this.inputs = new Map(plan.inputs.map((input) => [input.name, valueAt(input, layout.inputs.get(input.name)!)]));
    this.values = plan.values.map((value, i) => valueAt(value, layout.values[i]!));
    for (const call of plan.calls) if (!usesCache(call)) this.anywhere.set(call, building.use(this.bind(call, null)));
    this.resources = building.move();
    this.resources.defer(() => this.bySlot.forEach(disposeAll));
  }

  /** @param assertUsable Called after each graph. @throws ProgramInputError before anything runs; OrtCallError; the signal's reason */
  async run(step: ProgramStep, assertUsable: () => void): Promise<Record<string, HostTensor>> {
    this.check(step);
    const { signal } = step;
    signal?.throwIfAborted();
    const bindings = this.bindingsAt(step.firstSlot);
    for (const [name, value] of this.inputs) (value.view as { set(source: ArrayLike<number | bigint>): void }).set(step.inputs[name]!.data);
    for (const call of this.plan.calls) {
      await this.sessions.get(call.graph)!.run(this.anywhere.get(call) ?? bindings.get(call)!, { signal });
      assertUsable();
    }
    return Object.fromEntries(this.plan.outputs.map(({ name, index }) => [name, this.tensor(index)]));
  }

  [Symbol.dispose](): void {
    this.resources[Symbol.dispose]();
  }

  private check(step: ProgramStep): void {
    const { batch } = this.plan;
    if (batch !== null && step.batch !== batch) {
      const what = `The step has ${step.batch} sequences; the bucket has ${batch}.`;
      throw new ProgramInputError(what, 'batch', 'run the bucket of the same batch.');
    }
    checkStep(this.checked, step, this.memory.kvSlots);
  }

  private tensor(index: number): HostTensor {
    const { dtype, dims } = this.plan.values[index]!;
    return { dtype, dims, data: this.values[index]!.view as HostTensor['data'] };
  }

  private bindingsAt(firstSlot: number): ReadonlyMap<Call, IoBinding> {
    const bindings = this.bySlot.get(firstSlot) ?? this.bindFrom(firstSlot);
    this.bySlot.delete(firstSlot);
    this.bySlot.set(firstSlot, bindings); // as the latest
    if (this.bySlot.size > maxSlots) {
      const [oldest, dropped] = this.bySlot.entries().next().value!;
      this.bySlot.delete(oldest);
      disposeAll(dropped);
    }
    return bindings;
  }

  private bindFrom(firstSlot: number): ReadonlyMap<Call, IoBinding> {
    const { calls, caches, batch } = this.plan;
    using views = new Disposables(); // the bindings keep them alive
    using building = new Disposables();
    const byPath = new Map(caches.map(({ path }) => [path, views.use(this.memory.caches.view(path, firstSlot, batch ?? 1))]));
    const bindings = new Map(calls.filter(usesCache).map((call) => [call, building.use(this.bind(call, byPath))]));
    building.move();
    return bindings;
  }

  private bind({ graph, reads, writes }: Call, caches: ReadonlyMap<string, OrtValue> | null): IoBinding {
    return this.sessions.get(graph)!.bind({
      inputs: Object.fromEntries(reads.map(({ tensor, source }) => [tensor, this.sourceValue(source, caches)])),
      outputs: Object.fromEntries(writes.map(({ tensor, target }) => [tensor, this.targetValue(target, caches)])),
    });
  }

  private sourceValue(source: Source, caches: ReadonlyMap<string, OrtValue> | null): OrtValue {
    switch (source.from) {
      case 'input':
        return this.inputs.get(source.name)!;
      case 'value':
        return this.values[source.index]!;
      case 'weight':
        return this.memory.weights.at(source.path, this.weightShapes.get(source.path)!);
      case 'cache':
        return caches!.get(source.path)!;
    }
  }

  private targetValue(target: Target, caches: ReadonlyMap<string, OrtValue> | null): OrtValue {
    return target.to === 'value' ? this.values[target.index]! : caches!.get(target.path)!;
  }
}

function usesCache({ reads, writes }: Call): boolean {
  return reads.some(({ source }) => source.from === 'cache') || writes.some(({ target }) => target.to === 'cache');
}

function disposeAll(bindings: ReadonlyMap<Call, IoBinding>): void {
  for (const binding of bindings.values()) binding[Symbol.dispose]();
}

/** The part of a plan that `checkStep` reads. */
function checkable({ inputs, groups }: BucketPlan): Parameters<typeof checkStep>[0] {
  return {
    inputs: inputs.map(({ name, dtype, dims }) => ({ name, dtype, dims: dims.map((size) => Dim.of(size)) })),
    groups: groups.map(({ queries, ...group }) => ({ ...group, keyCache: '', sequence: Dim.of(queries) })),
  };
}
