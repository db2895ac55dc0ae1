import { createHash } from 'node:crypto';
import {
  type CapturedModel,
  type CompileOptions,
  type Dims,
  type Graph,
  type GraphRuntimeInput,
  inlineRegions,
  planRegions,
  type RegionCall,
  type RuntimeBinding,
  type Value,
} from '@graft/graph';
import { type AttentionGroup, type ExportedGraph, type ExportOptions, exportGraph } from '@graft/onnx-export';
import type { BucketPlan, Call, Source } from './bucket-plan.ts';
import type { StaticMode } from './emulated-backend.ts';
import { StaticDeviceGraphError } from './errors.ts';

/** A plan with the ONNX models that its calls run, by hash. */
interface PlannedBucket {
  readonly plan: BucketPlan;
  readonly graphs: ReadonlyMap<string, Uint8Array<ArrayBuffer>>;
}

type BindRuntimeInput = CompileOptions['bindRuntimeInput'];

/** How the graphs of a program are exported. */
export type ExportParts = Pick<ExportOptions, 'bindRuntimeInput' | 'lowerings' | 'platform'>;

/**
 * Plans the calls of a step. Mode `compile` calls a graph for each region and segment, and calls share graphs where they can. Mode `lazy` calls one graph.
 * @throws StaticDeviceGraphError, LoweringError
 */
export function planBucket(captured: CapturedModel, mode: StaticMode, exporting: ExportParts): PlannedBucket {
  const { inputs, calls, outputs } = mode === 'compile' ? planRegions(captured) : asOneCall(inlineRegions(captured));
  const planner = new Planner(exporting);
  for (const { name, value } of inputs) planner.addInput(name, value);
  for (const call of calls) planner.addCall(call);
  return planner.finish(outputs);
}

function asOneCall(graph: Graph): { inputs: Graph['inputs']; calls: RegionCall[]; outputs: Graph['outputs'] } {
  const call: RegionCall = {
    region: { name: 'whole', graph },
    path: '',
    weights: graph.weights,
    runtimeInputs: graph.runtimeInputs,
    inputs: graph.inputs.map(({ value }) => value),
    outputs: graph.outputs.map(({ value }) => value),
  };
  return { inputs: graph.inputs, calls: [call], outputs: graph.outputs };
}

/**
 * Bindings for the runtime inputs of a region's graph, which serves layers of several KV groups. Each input has its own name, and the number of rows is not used.
 */
function localBinding({ region, runtimeInputs }: RegionCall, bindRuntimeInput: BindRuntimeInput): BindRuntimeInput {
  const kinds = new Map(
    region.graph.runtimeInputs.map(({ path }, i) => [path, bindRuntimeInput(runtimeInputs[i]!.path, runtimeInputs[i]!.kind).kind]),
  );
  return (path) => (kinds.get(path) === 'cache' ? { kind: 'cache', rows: 1 } : { kind: 'input', name: runtimeName(path) });
}

const runtimeName = (path: string): string => `runtime input ${path}`;

class Planner {
  private readonly exporting: ExportParts;
  private readonly inputs = new Map<string, BucketPlan['inputs'][number]>();
  private readonly sources = new Map<Value, Source>();
  private readonly values: BucketPlan['values'] = [];
  private readonly weights = new Map<string, BucketPlan['weights'][number]>();
  private readonly caches = new Map<string, BucketPlan['caches'][number]>();
  private readonly groups = new Map<string, BucketPlan['groups'][number]>();
  private readonly calls: Call[] = [];
  private readonly graphs = new Map<string, Uint8Array<ArrayBuffer>>();
  private readonly exported = new Map<Graph, { exported: ExportedGraph; hash: string }>();
  private batch: number | null = null;

  constructor(exporting: ExportParts) {
    this.exporting = exporting;
  }

  addInput(name: string, value: Value): void {
    this.defineInput(name, value, `input "${name}"`);
    this.sources.set(value, { from: 'input', name });
  }

  addCall(call: RegionCall): void {
    const { region, path, weights, inputs, outputs } = call;
    const { exported, hash } = this.export(call);
    const where = path === '' ? region.name : path;
    const label = path === '' ? region.name : `${region.name} ${path}`;
    const bound = new Map(region.graph.runtimeInputs.map((input, i) => [input.path, this.bind(input, call.runtimeInputs[i]!.path)]));
    const reads: Call['reads'] = [];
    const names = new Map<string, Source>(region.graph.inputs.map(({ name }, i) => [name, this.sources.get(inputs[i]!)!]));
    for (const [own, { binding }] of bound)
      if (binding.kind === 'input') names.set(runtimeName(own), { from: 'input', name: binding.name });
    for (const { name } of exported.inputs) reads.push({ tensor: name, source: names.get(name)! });
    for (const { name, slot } of exported.weights) {
      const full = weights[region.graph.weights.indexOf(slot)]!.path;
      this.weights.set(full, { path: full, shape: [...slot.shape] });
      reads.push({ tensor: name, source: { from: 'weight', path: full } });
    }
    const writes: Call['writes'] = exported.outputs.map(({ tensor }, i) => ({
      tensor,
      target: { to: 'value', index: this.defineValue(outputs[i]!, where) },
    }));
    for (const cache of exported.caches) {
      const { full, kind, binding } = bound.get(cache.path)!;
      const [heads, , width] = cache.dims;
      this.caches.set(full, { path: full, kind, dims: [heads, (binding as { rows: number }).rows, width] });
      reads.push({ tensor: cache.input, source: { from: 'cache', path: full } });
      writes.push({ tensor: cache.output, target: { to: 'cache', path: full } });
    }
    for (const group of exported.groups) this.addGroup(group, bound, names, where);
    this.calls.push({ graph: hash, label, reads, writes });
  }

  finish(outputs: Graph['outputs']): PlannedBucket {
    const plan: BucketPlan = {
      inputs: [...this.inputs.values()],
      values: this.values,
      weights: [...this.weights.values()],
      caches: [...this.caches.values()],
      batch: this.batch,
      groups: [...this.groups.values()],
      calls: this.calls,
      outputs: outputs.map(({ name, value }) => ({ name, index: (this.sources.get(value) as Extract<Source, { from: 'value' }>).index })),
    };
    return { plan, graphs: this.graphs };
  }

  private bind({ kind, value }: GraphRuntimeInput, full: string): { full: string; kind: string; binding: RuntimeBinding } {
    const binding = this.exporting.bindRuntimeInput(full, kind);
    if (binding.kind === 'input') this.defineInput(binding.name, value, `runtime input ${full}`);
    else {
      const batch = sizesOf(value.dims.slice(0, 1), `runtime input ${full}`)[0]!;
      if (this.batch !== null && this.batch !== batch)
        throw new StaticDeviceGraphError(
          `The runtime input has ${batch} sequences; another one has ${this.batch}.`,
          `runtime input ${full}`,
        );
      this.batch = batch;
    }
    return { full, kind, binding };
  }

  private defineInput(name: string, { dtype, dims }: Value, where: string): void {
    const made = { name, dtype, dims: sizesOf(dims, where) };
    const known = this.inputs.get(name);
    if (known !== undefined && (known.dtype !== made.dtype || known.dims.join() !== made.dims.join()))
      throw new StaticDeviceGraphError(
        `The name "${name}" has two types: ${known.dtype}[${known.dims.join(', ')}] and ${dtype}[${made.dims.join(', ')}].`,
        where,
      );
    this.inputs.set(name, made);
  }

  private defineValue(value: Value, where: string): number {
    const index = this.values.push({ dtype: value.dtype, dims: sizesOf(value.dims, where) }) - 1;
    this.sources.set(value, { from: 'value', index });
    return index;
  }

  private addGroup(
    group: AttentionGroup,
    bound: ReadonlyMap<string, { binding: RuntimeBinding }>,
    names: ReadonlyMap<string, Source>,
    where: string,
  ): void {
    const stepInput = (name: string | null): string | null => {
      const source = name === null ? undefined : names.get(name);
      return source?.from === 'input' ? source.name : null;
    };
    const { rows } = bound.get(group.keyCache)!.binding as { rows: number };
    const made = {
      path: where,
      queryStart: stepInput(group.queryStart),
      sequenceLengths: stepInput(group.sequenceLengths),
      totalLength: stepInput(group.totalLength),
      queries: sizesOf([group.sequence], where)[0]!,
      rows,
    };
    const key = JSON.stringify({ ...made, path: '' });
    if (!this.groups.has(key)) this.groups.set(key, made);
  }

  /** Does not fuse ops: an op then rounds alike next to any other op, and an override that adds or removes ops (zeros, a branch) changes no number. */
  private export(call: RegionCall): { exported: ExportedGraph; hash: string } {
    const { graph } = call.region;
    let made = this.exported.get(graph);
    if (made === undefined) {
      const bindRuntimeInput = localBinding(call, this.exporting.bindRuntimeInput);
      const exported = exportGraph(graph, 'inputs', { ...this.exporting, bindRuntimeInput, fuse: false });
      made = { exported, hash: createHash('sha256').update(exported.model).digest('hex') };
      this.exported.set(graph, made);
      this.graphs.set(made.hash, exported.model);
    }
    return made;
  }
}

function sizesOf(dims: Dims, where: string): number[] {
  return dims.map((dim) => {
    if (!dim.isStatic) throw new StaticDeviceGraphError(`The size "${dim.toString()}" is unknown.`, where);
    return dim.value;
  });
}
