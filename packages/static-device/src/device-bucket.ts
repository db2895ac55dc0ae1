import { Disposables } from '@graft/common';
import { Dim, type HostTensor, ProgramInputError, type ProgramStep } from '@graft/graph';
import { checkStep } from '@graft/onnx-export';
import { type IoBinding, type Memory, type Session, Value } from '@graft/onnxruntime';
import { type ActivationLayout, layOut } from './activations.ts';
import type { BucketPlan, Call, Source, Target } from './bucket-plan.ts';
import type { DeviceCaches } from './device-caches.ts';
import type { DeviceWeights } from './device-weights.ts';

/** First slots whose bindings are kept; those that were not used for longest go first. */
const maxSlots = 32;

export interface DeviceMemory {
  readonly weights: DeviceWeights;
  readonly caches: DeviceCaches;
  readonly kvSlots: number;
  /** Memory for activations of at least so many bytes, which all buckets share: steps run one at a time. */
  activations(bytes: number): Memory;
}

/** One bucket, ready to run: its graphs bound once to weights, activations and caches. */
export class DeviceBucket implements Disposable {
  private readonly plan: BucketPlan;
  private readonly sessions: readonly Session[];
  private readonly memory: DeviceMemory;
  private readonly resources = new Disposables();
  private readonly checked: Parameters<typeof checkStep>[0];
  private readonly weightShapes: ReadonlyMap<string, readonly number[]>;
  private readonly inputs: ReadonlyMap<string, Value>;
  private readonly values: readonly Value[];
  /** Of calls that touch no cache: they serve any slot. */
  private readonly anywhere = new Map<Call, IoBinding>();
  private readonly bySlot = new Map<number, SlotBindings>();

  /** @param sessions by graph. @throws StaticDeviceWeightError, StaticDeviceGraphError, and what ONNX Runtime says of a name that a graph has not. */
  constructor(plan: BucketPlan, sessions: ReadonlyMap<string, Session>, memory: DeviceMemory) {
    this.plan = plan;
    this.memory = memory;
    this.sessions = plan.calls.map(({ graph }) => sessions.get(graph)!);
    this.checked = checkable(plan);
    this.weightShapes = new Map(plan.weights.map(({ path, shape }) => [path, shape]));
    const layout = layOut(plan);
    using building = new Disposables();
    for (const cache of plan.caches) memory.caches.add(cache);
    ({ inputs: this.inputs, values: this.values } = placeActivations(plan, layout, memory.activations(layout.bytes), building));
    for (const [i, call] of plan.calls.entries())
      if (!touchesCache(call)) this.anywhere.set(call, building.use(this.bind(call, this.sessions[i]!, null)));
    this.resources = building.move();
    this.resources.defer(() => {
      for (const bindings of this.bySlot.values()) bindings[Symbol.dispose]();
    });
  }

  /** @param assertUsable called between two graphs. @throws ProgramInputError before anything runs; OrtCallError; the signal's reason. */
  async run(step: ProgramStep, assertUsable: () => void): Promise<Record<string, HostTensor>> {
    this.check(step);
    const { signal } = step;
    signal?.throwIfAborted();
    const bindings = this.bindingsAt(step.firstSlot);
    for (const [name, value] of this.inputs) (value.view as { set(source: ArrayLike<number | bigint>): void }).set(step.inputs[name]!.data);
    for (const [i, binding] of bindings.entries()) {
      signal?.throwIfAborted();
      await this.sessions[i]!.run(binding, signal === undefined ? {} : { signal });
      assertUsable();
    }
    return Object.fromEntries(this.plan.outputs.map(({ name, index }) => [name, this.tensor(index)]));
  }

  [Symbol.dispose](): void {
    this.resources[Symbol.dispose]();
  }

  private check(step: ProgramStep): void {
    const { batch } = this.plan;
    if (batch !== null && step.batch !== batch)
      throw new ProgramInputError(`It has ${step.batch} sequences; the bucket has ${batch}.`, 'batch', 'run the bucket of its size.');
    checkStep(this.checked, step, this.memory.kvSlots);
  }

  private tensor(index: number): HostTensor {
    const { dtype, dims } = this.plan.values[index]!;
    return { dtype, dims, data: this.values[index]!.view as HostTensor['data'] };
  }

  private bindingsAt(firstSlot: number): readonly IoBinding[] {
    let bindings = this.bySlot.get(firstSlot);
    if (bindings === undefined) {
      if (this.bySlot.size >= maxSlots) {
        const [oldest, dropped] = this.bySlot.entries().next().value!;
        this.bySlot.delete(oldest);
        dropped[Symbol.dispose]();
      }
      bindings = this.bindFrom(firstSlot);
    } else this.bySlot.delete(firstSlot);
    this.bySlot.set(firstSlot, bindings); // as the latest
    return bindings.list;
  }

  private bindFrom(firstSlot: number): SlotBindings {
    const { calls, caches, batch } = this.plan;
    using building = new Disposables();
    const views = new Map(caches.map(({ path }) => [path, building.use(this.memory.caches.view(path, firstSlot, batch ?? 1))]));
    const list = calls.map((call, i) => this.anywhere.get(call) ?? building.use(this.bind(call, this.sessions[i]!, views)));
    const resources = building.move();
    return { list, [Symbol.dispose]: () => resources[Symbol.dispose]() };
  }

  private bind({ reads, writes }: Call, session: Session, caches: ReadonlyMap<string, Value> | null): IoBinding {
    return session.bind({
      inputs: Object.fromEntries(reads.map(({ tensor, source }) => [tensor, this.sourceValue(source, caches)])),
      outputs: Object.fromEntries(writes.map(({ tensor, target }) => [tensor, this.targetValue(target, caches)])),
    });
  }

  private sourceValue(source: Source, caches: ReadonlyMap<string, Value> | null): Value {
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

  private targetValue(target: Target, caches: ReadonlyMap<string, Value> | null): Value {
    return target.to === 'value' ? this.values[target.index]! : caches!.get(target.path)!;
  }
}

interface SlotBindings extends Disposable {
  readonly list: readonly IoBinding[];
}

function touchesCache({ reads, writes }: Call): boolean {
  return reads.some(({ source }) => source.from === 'cache') || writes.some(({ target }) => target.to === 'cache');
}

function placeActivations({ inputs, values }: BucketPlan, layout: ActivationLayout, memory: Memory, owner: Disposables) {
  return {
    inputs: new Map(
      inputs.map(({ name, dtype, dims }) => [name, owner.use(Value.over(memory, dtype, dims, layout.inputs.get(name)!) as Value)]),
    ),
    values: values.map(({ dtype, dims }, i) => owner.use(Value.over(memory, dtype, dims, layout.values[i]!) as Value)),
  };
}

/** The plan as `checkStep` takes it. */
function checkable({ inputs, groups }: BucketPlan): Parameters<typeof checkStep>[0] {
  return {
    inputs: inputs.map(({ name, dtype, dims }) => ({ name, dtype, dims: dims.map((size) => Dim.of(size)) })),
    groups: groups.map(({ queries, ...group }) => ({ ...group, keyCache: '', sequence: Dim.of(queries) })),
  };
}
