import { messageOf } from '@graft/common';
import type { DType } from '../dtype.ts';
import { CapturePrivateFieldError } from '../errors.ts';
import type { Graph } from '../graph.ts';
import { GraphBuilder } from '../graph-builder.ts';
import { joinPath, type Module, type Region } from '../nn/module.ts';
import type { RuntimeSlot } from '../nn/runtime-slot.ts';
import { Dim, type Dims, formatDims } from '../shape.ts';
import type { SymbolicTensor } from '../tensor.ts';
import { verifyGraph } from '../verify-graph.ts';
import { CaptureCache, type CaptureEntry, type InputFact } from './capture-cache.ts';
import type { Guard } from './guard.ts';
import { CaptureProxies } from './proxy.ts';
import { type Flat, flatten, type Structure, unflatten } from './pytree.ts';

export interface InputSpec {
  readonly dtype: DType;
  readonly dims: Dims;
}

export interface CaptureOptions<M extends Module, Inputs extends Record<string, InputSpec>> {
  /** The tensors that `call` gets, by name. */
  inputs: Inputs;
  /** Runs the model: what it gives, a record of tensors (lists and nulls allowed), becomes the graph's outputs. */
  call(model: M, inputs: { [K in keyof Inputs]: SymbolicTensor }): Record<string, unknown>;
  /** What the symbol `batch` of a runtime slot stands for in this capture; a symbol of that name by default. */
  batch?: Dim;
  cache?: CaptureCache;
}

/** A model's whole `forward` as a graph whose nodes are ops and calls of shared regions. */
export interface CapturedModel {
  readonly root: Module;
  readonly graph: Graph;
  readonly guards: readonly Guard[];
  readonly outputs: Structure;
  readonly cache: CaptureCache;
}

/**
 * Runs `forward` with tensors that hold no data and keeps the graph it leaves behind. Modules whose class declares a `region` are captured once
 * for all instances that their guards cannot tell apart.
 * @throws CapturePrivateFieldError, CaptureArrowFieldError, CaptureBoundMethodError, CaptureAssignmentError for what a Proxy cannot see.
 */
export function captureModel<M extends Module, const Inputs extends Record<string, InputSpec>>(
  model: M,
  options: CaptureOptions<M, Inputs>,
): CapturedModel {
  const { inputs, call, cache = new CaptureCache(), batch = Dim.symbol('batch') } = options;
  const capture = new Capture(cache, batch, null);
  const tensors = Object.fromEntries(
    Object.entries(inputs).map(([name, { dtype, dims }]) => [name, capture.builder.input(name, dtype, dims)]),
  );
  const { graph, structure } = capture.run(model, (proxy) => call(proxy, tensors as { [K in keyof Inputs]: SymbolicTensor }));
  return { root: model, graph, guards: [...capture.proxies.guards.values()], outputs: structure, cache };
}

/** What V8 says when a Proxy stands where an object with `#private` fields, methods or accessors should. */
const privateAccess = /private member #|^(?:Receiver|Object) must be (?:an instance of )?class/;

/** One capture: of the whole model, or of one region inside it. */
class Capture {
  readonly builder = new GraphBuilder();
  readonly proxies: CaptureProxies;
  private readonly cache: CaptureCache;
  private readonly batch: Dim;
  private readonly prefix: string;

  /** @param regionPath the module whose region this captures, inside which there are no further regions; null for the whole model. */
  constructor(cache: CaptureCache, batch: Dim, regionPath: string | null) {
    this.cache = cache;
    this.batch = batch;
    this.prefix = regionPath ?? '';
    this.proxies = new CaptureProxies({
      builder: this.builder,
      regionForward: (module, path) => (regionPath === null ? this.regionForward(module, path) : null),
      slotDim: (dim, modulePath) => this.slotDim(dim, modulePath),
      fullPath: (path) => joinPath(this.prefix, path),
    });
  }

  run<M extends Module>(model: M, body: (proxy: M) => unknown): { graph: Graph; structure: Structure } {
    const proxy = this.proxies.wrap(model, this.cache.root);
    const result = this.builder.run(() => {
      try {
        return body(proxy);
      } catch (error) {
        if (error instanceof TypeError && privateAccess.test(error.message)) {
          throw new CapturePrivateFieldError(messageOf(error), joinPath(this.prefix, this.builder.currentPath), error);
        }
        throw error;
      }
    });
    const { tensors, structure } = flatten(result);
    const graph = this.builder.finish(tensors.map(({ path, tensor }) => ({ name: path, tensor })));
    verifyGraph(graph, { typesAreInferred: true });
    return { graph, structure };
  }

  private slotDim(dim: RuntimeSlot['dims'][number], modulePath: string): Dim {
    if (dim === 'rows') return Dim.symbol(`@${modulePath}`);
    return dim === 'batch' ? this.batch : Dim.of(dim);
  }

  private regionForward(module: Module, path: string): ((...args: unknown[]) => unknown) | null {
    const { region } = module.constructor as typeof Module;
    if (region === null) return null;
    return (...args) => this.callRegion(module, region, path, args);
  }

  private callRegion(module: Module, region: Region, path: string, args: readonly unknown[]): unknown {
    const flat: Flat[] = [];
    const tensors: SymbolicTensor[] = [];
    const facts: InputFact[] = [];
    for (const [i, arg] of args.entries()) {
      const name = region.inputs[i] ?? `input${i}`;
      const argument = flatten(arg, name);
      flat.push(argument);
      for (const { tensor } of argument.tensors) tensors.push(tensor);
      addInputFacts(facts, argument.structure, argument.tensors, name);
    }
    const found = this.cache.lookup(region.name, path, module, facts);
    const entry = 'guards' in found ? found : this.cache.add(found, (name) => this.captureRegion(module, path, name, facts, flat));
    return unflatten(entry.outputs, this.builder.region(path, entry.region, tensors));
  }

  private captureRegion(module: Module, path: string, name: string, facts: readonly InputFact[], args: readonly Flat[]): CaptureEntry {
    const inner = new Capture(this.cache, this.batch, path);
    const inputs = args.map(({ tensors, structure }) =>
      unflatten(
        structure,
        tensors.map(({ path, tensor }) => inner.builder.input(path, tensor.dtype, tensor.dims)),
      ),
    );
    const { graph, structure } = inner.run(module, (proxy) =>
      (proxy as Module & { forward(...args: unknown[]): unknown }).forward(...inputs),
    );
    return { region: { name, graph }, guards: [...inner.proxies.guards.values()], inputs: facts, outputs: structure };
  }
}

function addInputFacts(facts: InputFact[], structure: Structure, tensors: Flat['tensors'], name: string): void {
  switch (structure.kind) {
    case 'tensor': {
      const { dtype, dims } = tensors[structure.index]!.tensor;
      facts.push({ name, text: dtype + formatDims(dims) });
      break;
    }
    case 'leaf':
      facts.push({ name, text: leafText(structure.value) });
      break;
    case 'list':
      facts.push({ name: joinPath(name, 'length'), text: String(structure.items.length) });
      for (const [i, item] of structure.items.entries()) addInputFacts(facts, item, tensors, joinPath(name, String(i)));
      break;
    case 'record':
      for (const [key, item] of structure.entries) addInputFacts(facts, item, tensors, joinPath(name, key));
  }
}

function leafText(value: unknown): string {
  return typeof value === 'string' ? JSON.stringify(value) : String(value);
}
