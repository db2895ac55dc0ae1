import { GraftError, meantNames } from '@graft/common';
import { CapturePrivateFieldError, ForwardError, InMethodError, ModelOutputError } from '../errors.ts';
import type { Graph } from '../graph.ts';
import { mapValues } from '../graph-copy.ts';
import { GraphRecorder, type TensorType } from '../graph-recorder.ts';
import { joinPath, type Module, type Region } from '../nn/module.ts';
import type { RuntimeInput } from '../nn/runtime-input.ts';
import { ops } from '../ops/index.ts';
import { Dim, formatDims, watchSizes } from '../shape.ts';
import { describeResult, SymbolicTensor } from '../tensor.ts';
import { verifyGraph } from '../verify-graph.ts';
import { CaptureCache, type CaptureEntry, type InputFact } from './capture-cache.ts';
import { checkGuard, type Guard } from './guard.ts';
import { inputFacts, inputName } from './input-facts.ts';
import { CaptureProxies, isNoOutput } from './proxy.ts';
import { type Flat, flatten, type Structure, unflatten, walk } from './pytree.ts';
import { type CalledRegion, specialise, type Template } from './specialise.ts';

export type InputSpec = TensorType;

export interface CaptureOptions<M extends Module, Inputs extends Record<string, InputSpec>> {
  /** The tensors that `call` takes, by name. */
  inputs: Inputs;
  /** Runs the model. Its result, a record of tensors (lists and nulls allowed), becomes the graph's outputs. */
  call(model: M, inputs: { [K in keyof Inputs]: SymbolicTensor }): Record<string, unknown>;
  /** The size that `batch` of a runtime input stands for in this capture. Default: a symbol of that name. */
  batch?: Dim;
  cache?: CaptureCache;
  /**
   * Numbers for symbols of `inputs` and `batch`: the capture is that of these sizes. A frozen cache captures once for all sizes and fills the numbers in,
   * unless a `forward` asks for a size. For that, pass the same function as `call` at each capture.
   */
  sizes?: Readonly<Record<string, number>>;
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
 * Runs `forward` with tensors that hold no data and keeps the graph it leaves behind. A module whose class declares a `region` is captured once
 * for all instances that its guards cannot tell apart.
 * @throws CapturePrivateFieldError, CaptureArrowFieldError, CaptureBoundMethodError, CaptureAssignmentError for code that a Proxy cannot see.
 */
export function captureModel<M extends Module, const Inputs extends Record<string, InputSpec>>(
  model: M,
  options: CaptureOptions<M, Inputs>,
): CapturedModel {
  const { sizes = {}, cache = new CaptureCache() } = options;
  const numbers = new Map(Object.entries(sizes).map(([name, size]) => [name, Dim.of(size).value]));
  const template = cache.isFrozen && numbers.size > 0 ? templateFor(model, options, cache, numbers) : null;
  if (template !== null) return specialise(template, new Map([...numbers].map(([name, size]) => [templateSymbol(name), size])), cache);
  return captureAs(
    model,
    mapDims(options, (dim) => dim.withSizes(numbers)),
    cache,
  ).captured;
}

/** The options of `captureModel` with unknown input names. */
type AnyCapture<M> = Omit<CaptureOptions<Module, Record<string, InputSpec>>, 'call'> & {
  call(model: M, inputs: never): Record<string, unknown>;
};

function captureAs<M extends Module>(
  model: M,
  { inputs, call, batch }: AnyCapture<M> & { batch: Dim },
  cache: CaptureCache,
  onAsked: Surroundings['onAsked'] = null,
): Template {
  const capture = new Capture({ cache, batch, onAsked }, null);
  const tensors = Object.fromEntries(
    Object.entries(inputs).map(([name, { dtype, dims }]) => [name, capture.recorder.input(name, dtype, dims)]),
  );
  const { graph, structure } = capture.run(model, (proxy) => call(proxy, tensors as never));
  const guards = [...capture.proxies.guards.values()];
  return { captured: { root: model, graph, guards, outputs: structure, cache }, calls: capture.calls };
}

/** The same capture with other dimensions. */
function mapDims<M extends Module>({ inputs, call, batch = Dim.symbol('batch') }: AnyCapture<M>, change: (dim: Dim) => Dim) {
  return { inputs: mapValues(inputs, ({ dtype, dims }) => ({ dtype, dims: dims.map(change) })), call, batch: change(batch) };
}

/** A symbol of a template. No other dimension of the model has its name, so numbers replace nothing else. */
const templateSymbol = (name: string): string => `any ${name}`;

/**
 * The capture for any size that `cache` holds, or a new one in its own cache; null when it does not stand for each size. Modules outside of regions may have
 * changed since, so the guards of a held one are evaluated again.
 */
function templateFor<M extends Module>(
  model: M,
  options: AnyCapture<M>,
  cache: CaptureCache,
  sizes: ReadonlyMap<string, number>,
): Template | null {
  const { call } = options;
  const anySize = mapDims(options, (dim) => dim.renamed((symbol) => (sizes.has(symbol) ? templateSymbol(symbol) : symbol)));
  const inputs = Object.entries(anySize.inputs).map(([name, { dtype, dims }]) => `${name} ${dtype}${formatDims(dims)}`);
  const key = [anySize.batch, ...inputs].join();
  const held = templates.get(cache) ?? [];
  templates.set(cache, held);
  const at = held.findIndex((one) => one.model === model && one.call === call && one.inputs === key);
  const known = held[at]?.template;
  if (known !== undefined && (known === null || known.captured.guards.every((guard) => checkGuard(guard, model) === null))) return known;
  const template = captureAnySize(model, anySize);
  held.splice(at < 0 ? held.length : at, 1, { model, call, inputs: key, template });
  return template;
}

/** Templates by cache, each with the arguments of its capture in words. Null: `forward` asked for a size, or does not run without one. */
const templates = new WeakMap<CaptureCache, { model: Module; call: unknown; inputs: string; template: Template | null }[]>();

function captureAnySize<M extends Module>(model: M, anySize: AnyCapture<M> & { batch: Dim }): Template | null {
  let isAsked = false;
  try {
    const template = captureAs(model, anySize, new CaptureCache({ limit: Number.POSITIVE_INFINITY, isFrozen: true }), () => {
      isAsked = true;
    });
    return isAsked ? null : template;
  } catch {
    return null; // it may run at a number; if not, the capture at the number says why
  }
}

/** V8's message for a Proxy in place of an object with `#private` fields, methods or accessors. */
const privateAccess = /private (?:member|field|method)|^(?:Receiver|Object) must be (?:an instance of )?class/;

/** An error with the path of the module that raised it. */
function placed(error: unknown, path: string, caller: string, gaveNothing: string | null): GraftError {
  if (error instanceof InMethodError) return error.calledBy(path, caller);
  if (GraftError.is(error)) return error.where === undefined ? error.at(`${path || 'the model itself'} (${caller})`) : error;
  if (error instanceof TypeError && privateAccess.test(error.message))
    return new CapturePrivateFieldError(error.message, path || 'the model itself', error);
  const nothing = error instanceof TypeError && gaveNothing !== null;
  return new ForwardError(
    path,
    caller,
    nothing ? `${gaveNothing} returned undefined just before: return its result.` : fixOf(error),
    error,
  );
}

const folder = new URL('../', import.meta.url).pathname;

/** The nearest op or method for one that does not exist, and the line outside of this package that threw. */
function fixOf(error: unknown): string {
  const { message = '', stack = '' } = (error ?? {}) as Partial<Error>;
  const [, on = '', name = ''] = /([\w$]*)\.([\w$]+) is not a function/.exec(message) ?? [];
  const methods = Object.getOwnPropertyNames(SymbolicTensor.prototype).filter((one) => one !== 'constructor' && one !== 'ops');
  const known = on === 'ops' ? Object.keys(ops) : methods;
  const nearest = [...known.filter((one) => name.startsWith(one)), ...meantNames(name, known)];
  const line = stack.split('\n').find((text) => /^\s+at .*:\d+:\d+\)?$/.test(text) && !text.includes(folder));
  const at = line === undefined ? '' : ` at ${line.replace(/^\s+at (?:.*\()?(.*?)\)?$/, '$1')}`;
  return name !== '' && nearest.length > 0 ? `write ${on}.${nearest[0]}${at}.` : `fix that method${at || '; the cause has its stack'}.`;
}

/** @throws ModelOutputError for an output of the whole model that is neither a tensor nor null. */
function checkOutputs(structure: Structure): void {
  for (const { path, at } of walk(structure))
    if (at.kind === 'leaf' && isNoOutput(at.value)) throw new ModelOutputError(`output ${path}`, describeResult(at.value));
}

/** The parts that the captures of a model and of its regions share. */
interface Surroundings {
  cache: CaptureCache;
  batch: Dim;
  /** Called when a `forward` asks for a size that is a symbol. */
  onAsked: (() => void) | null;
}

/** One capture: of the whole model, or of one region inside it. */
class Capture {
  readonly recorder = new GraphRecorder(ops);
  readonly proxies: CaptureProxies;
  /** Of the regions, in the order of the nodes. */
  readonly calls: CalledRegion[] = [];
  private readonly shared: Surroundings;
  private readonly prefix: string;

  /** @param regionPath the module of the captured region, which has no regions inside; null for the whole model. */
  constructor(shared: Surroundings, regionPath: string | null) {
    this.shared = shared;
    this.prefix = regionPath ?? '';
    this.proxies = new CaptureProxies({
      recorder: this.recorder,
      regionForward: (module, path) => (regionPath === null ? this.regionForward(module, path) : null),
      runtimeDim: (dim, modulePath) => this.runtimeDim(dim, modulePath),
      fullPath: (path) => joinPath(this.prefix, path),
    });
  }

  run<M extends Module>(model: M, body: (proxy: M) => unknown): { graph: Graph; structure: Structure } {
    const proxy = this.proxies.wrap(model, this.shared.cache.root);
    const result = this.recorder.run(() => {
      try {
        return watchSizes(this.shared.onAsked, () => body(proxy));
      } catch (error) {
        const { path, caller } = this.proxies.failed ?? { path: this.recorder.currentPath, caller: 'forward' };
        throw placed(error, joinPath(this.prefix, path), caller, this.proxies.gaveNothing);
      }
    });
    const { tensors, structure } = flatten(result);
    if (this.prefix === '') checkOutputs(structure);
    const graph = this.recorder.finish(tensors.map(({ path, tensor }) => ({ name: path, tensor })));
    verifyGraph(graph, { typesAreInferred: true });
    return { graph, structure };
  }

  private runtimeDim(dim: RuntimeInput['dims'][number], modulePath: string): Dim {
    if (dim === 'rows') return Dim.symbol(`@${modulePath}`);
    return dim === 'batch' ? this.shared.batch : Dim.of(dim);
  }

  private regionForward(module: Module, path: string): ((...args: unknown[]) => unknown) | null {
    const { region } = module.constructor as typeof Module;
    if (region === null) return null;
    return (...args) => this.callRegion(module, region, path, args);
  }

  private callRegion(module: Module, region: Region, path: string, args: readonly unknown[]): unknown {
    const flat = args.map((arg, i) => flatten(arg, inputName(region, i)));
    const facts = inputFacts(region, flat);
    const call = { region: region.name, path, module, inputs: facts };
    const entry = this.shared.cache.entryFor(call, (name) => this.captureRegion(module, path, name, facts, flat));
    this.calls.push({ module, path, region, args: flat, entry });
    const tensors = flat.flatMap((argument) => argument.tensors.map(({ tensor }) => tensor));
    return unflatten(
      entry.outputs,
      watchSizes(null, () => this.recorder.region(path, entry.region, tensors)),
    );
  }

  private captureRegion(module: Module, path: string, name: string, facts: readonly InputFact[], args: readonly Flat[]): CaptureEntry {
    const inner = new Capture(this.shared, path);
    const inputs = args.map(({ tensors, structure }) =>
      unflatten(
        structure,
        tensors.map(({ path, tensor }) => inner.recorder.input(path, tensor.dtype, tensor.dims)),
      ),
    );
    const { graph, structure } = inner.run(module, (proxy) =>
      (proxy as Module & { forward(...args: unknown[]): unknown }).forward(...inputs),
    );
    return { region: { name, graph }, guards: [...inner.proxies.guards.values()], inputs: facts, outputs: structure };
  }
}
