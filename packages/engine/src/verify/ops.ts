import { messageOf } from '@graft/common';
import {
  captureModel,
  dimsOf,
  type HostTensor,
  InterpreterBackend,
  Module,
  memoryStorage,
  type OpFacts,
  type OpSample,
  ops,
  Parameter,
  RuntimeInput,
  type SampleInput,
  type Tensor,
} from '@graft/graph';
import { createServices } from '../default-services.ts';
import { Random } from '../random.ts';
import { loadEnginePlugins, type StartOptions } from '../start-engine.ts';
import { Backend, Lowerings } from '../tokens.ts';

/** Of a cache that an op writes. */
const sampleRows = 8;

/** One sample of one op, run on a backend and on the interpreter. */
export interface OpCheck {
  readonly op: string;
  /** The plugin that brings it; null for an op of Graft's. */
  readonly plugin: string | null;
  /** The sample's index; null for an op without samples, which is not run. */
  readonly sample: number | null;
  readonly by: 'lowering' | 'decomposition';
  readonly tolerance: number;
  /** Relative to the largest value, if that is over 1; null after a failure. */
  readonly difference: number | null;
  readonly failure: string | null;
  readonly held: boolean;
}

/** `verifyOps` for a platform's backend, on Graft's ops and those that plugins lower. @throws ServiceNotBoundError if nothing binds a backend. */
export async function verifyPlatformOps(
  asked: Parameters<typeof loadEnginePlugins>[0] & { seed?: number },
  platform: string,
  options: StartOptions = {},
): Promise<OpCheck[]> {
  const plugins = await loadEnginePlugins(asked, options);
  const container = createServices(plugins, await plugins.selectPlatform(platform), {});
  try {
    const lowered = (await container.get(Lowerings)).map(({ op }) => op);
    return await verifyOps(await container.get(Backend), [...new Set([...Object.values(ops), ...lowered])], asked);
  } finally {
    await container[Symbol.asyncDispose]();
  }
}

/**
 * Compares a backend's lowering of each op with the interpreter, on random inputs and within the lowering's declared tolerance.
 * @param list the ops to check: `Object.values(ops)` and those of plugins.
 * @returns one check per sample of each op, in order.
 */
export async function verifyOps(backend: Backend, list: readonly OpFacts[], { seed = 1 }: { seed?: number } = {}): Promise<OpCheck[]> {
  const checks: OpCheck[] = [];
  for (const op of list) {
    if (op.samples === null)
      checks.push({ ...factsOf(op), sample: null, by: 'lowering', tolerance: 0, difference: null, failure: null, held: true });
    for (const [i, sample] of (op.samples ?? []).entries()) checks.push(await check(backend, op, sample, i, seed));
  }
  return checks;
}

const factsOf = ({ name, plugin }: OpFacts) => ({ op: name, plugin });

async function check(backend: Backend, op: OpFacts, sample: OpSample, index: number, seed: number): Promise<OpCheck> {
  const facts = { ...factsOf(op), sample: index };
  const random = new Random(seed);
  const entries = inputsOf(op, sample).map(([name, input]) => ({ name, input, tensor: randomTensor(input, random) }));
  const isField = ({ name, input }: (typeof entries)[number]): boolean => input.isWeight === true || op.inPlaceOf.includes(name);
  const given = entries.filter((entry) => !isField(entry));
  const fields = entries
    .filter(isField)
    .map(({ name, tensor }) => [name, op.inPlaceOf.includes(name) ? cacheOf(tensor) : weightOf(tensor)]);
  const model = Object.assign(new Module(), Object.fromEntries(fields));
  const captured = captureModel(model, {
    inputs: Object.fromEntries(given.map(({ name, tensor }) => [name, { dtype: tensor.dtype, dims: dimsOf(tensor.dims) }])),
    call(proxy, inputs) {
      const call = op as unknown as (inputs: object, attributes: object) => Tensor | Tensor[];
      const ofModel = Object.fromEntries(fields.map(([name]) => [name, proxy[name as never]]));
      const results = [call({ ...inputs, ...ofModel }, sample.attributes ?? {})].flat();
      return Object.fromEntries(results.map((result, i) => [`y${i}`, result.dtype === 'bool' ? result.cast('int32') : result]));
    },
  });
  const node = captured.graph.nodes.find((candidate) => candidate.kind === 'op' && candidate.op === op);
  const lowering = node?.kind === 'op' ? backend.loweringOf?.(node) : undefined;
  const by = lowering === null ? 'decomposition' : 'lowering';
  const tolerance = lowering?.tolerance ?? 1e-4;
  const run = async (on: Backend) => {
    using program = await on.compile(captured, { kvSlots: 1, threads: 1, bindRuntimeInput: () => ({ kind: 'cache', rows: sampleRows }) });
    const inputs = Object.fromEntries(given.map(({ name, tensor }) => [name, tensor]));
    const outputs = await program.run({ firstSlot: 0, batch: 1, inputs });
    return Object.values(outputs).map(({ data }) => Float64Array.from(data as ArrayLike<number>, Number));
  };
  try {
    const [expected, actual] = [await run(new InterpreterBackend()), await run(backend)];
    const difference = Math.max(...expected.map((values, i) => differenceOf(values, actual[i]!)));
    return { ...facts, by, tolerance, difference, failure: null, held: difference <= tolerance };
  } catch (error) {
    return { ...facts, by, tolerance, difference: null, failure: messageOf(error), held: false };
  }
}

function inputsOf(op: OpFacts, { inputs = {} }: OpSample): [string, SampleInput][] {
  const required = op.inputs.map((name): [string, SampleInput] => [name, inputs[name] ?? { dims: [2, 3, 8] }]);
  return [...required, ...Object.entries(inputs).filter(([name]) => op.optional.includes(name))];
}

function randomTensor({ dims, dtype = 'float32', below = 4, value }: SampleInput, random: Random): HostTensor {
  const draw = Array.from({ length: dims.reduce((product, dim) => product * dim, 1) }, () => random.next());
  const whole = draw.map((each) => value ?? Math.floor(each * below));
  if (dtype === 'float32') return { dtype, dims, data: Float32Array.from(draw, (each) => value ?? 0.1 + 0.9 * each) };
  const data = dtype === 'int64' ? BigInt64Array.from(whole, BigInt) : dtype === 'int32' ? Int32Array.from(whole) : Uint8Array.from(whole);
  return { dtype, dims, data };
}

function weightOf({ dims, data }: HostTensor): Parameter {
  const parameter = new Parameter(dims);
  parameter.setStorage(memoryStorage('float32', dims, { data }));
  return parameter;
}

function cacheOf({ dims }: HostTensor): RuntimeInput {
  const [batch, heads, , headDim] = dims as [number, number, number, number];
  return new RuntimeInput('kvCache', 'float32', [batch, heads, 'rows', headDim]);
}

/** Infinite if only one of the two has NaN. */
function differenceOf(expected: Float64Array, actual: Float64Array): number {
  if (expected.length !== actual.length) return Number.POSITIVE_INFINITY;
  const largest = expected.reduce((a, b) => Math.max(a, Math.abs(b)), 1);
  return expected.reduce((worst, value, i) => {
    if (Object.is(value, actual[i])) return worst;
    const gap = Math.abs(value - actual[i]!) / largest;
    return Number.isNaN(gap) ? Number.POSITIVE_INFINITY : Math.max(worst, gap);
  }, 0);
}
