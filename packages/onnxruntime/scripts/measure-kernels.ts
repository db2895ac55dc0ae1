// Times the linear layers' forms on this machine. Usage, from the repository's root:
//   node --conditions=@graft/source --import ./scripts/tsx.mjs packages/onnxruntime/scripts/measure-kernels.ts [THREADS]
import { cpus } from 'node:os';
import { type Attribute, Environment, GraphBuilder, int, OrtValue } from '../src/index.ts';

const threads = Number(process.argv[2] ?? 2);
const environment = Environment.create();
const microsoft = 'com.microsoft';

interface Form {
  name: string;
  build: (graph: GraphBuilder, x: string, n: number, k: number, weights: Map<string, OrtValue>, prefix: string) => string;
}

/** Fills with noise of standard deviation `deviation` (float32) or with random bytes. */
function random(value: OrtValue, deviation = 1): OrtValue {
  const view = value.view as Float32Array | Uint8Array;
  const float = view instanceof Float32Array;
  let state = 1;
  for (let index = 0; index < view.length; index += 1) {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    view[index] = float ? (state / 2 ** 32 - 0.5) * Math.sqrt(12) * deviation : state >>> 24;
  }
  return value;
}

function declare(graph: GraphBuilder, weights: Map<string, OrtValue>, name: string, value: OrtValue): string {
  weights.set(name, value);
  return graph.externalInitializer(name, value.type, value.dims);
}

/** Values stay near 1 from layer to layer: overflow and denormal numbers have costs of their own. */
function filled(value: OrtValue, element: number): OrtValue {
  (value.view as Uint8Array | Float32Array).fill(element);
  return value;
}

function nBits(bits: number, block: number, accuracy: number, zeroPoints: boolean): Form {
  return {
    name: `MatMulNBits ${bits} bit b${block} acc${accuracy}${zeroPoints ? ' zp' : ''}`,
    build: (graph, x, n, k, weights, prefix) => {
      const blocks = k / block;
      const deviation = bits === 8 ? 74 : 4.6; // of uniform whole numbers of so many bits
      const inputs = [
        x,
        declare(graph, weights, `${prefix}b`, random(OrtValue.allocate('uint8', [n, blocks, (block * bits) / 8]))),
        declare(graph, weights, `${prefix}scales`, filled(OrtValue.allocate('float32', [n * blocks]), 1 / (deviation * Math.sqrt(k)))),
      ];
      if (zeroPoints)
        inputs.push(
          declare(
            graph,
            weights,
            `${prefix}zero_points`,
            filled(OrtValue.allocate('uint8', [n * Math.ceil((blocks * bits) / 8)]), bits === 8 ? 128 : 0x88),
          ),
        );
      const attributes: Record<string, Attribute> = {
        N: int(n),
        K: int(k),
        bits: int(bits),
        block_size: int(block),
        accuracy_level: int(accuracy),
      };
      return graph.op('MatMulNBits', inputs, { domain: microsoft, attributes });
    },
  };
}

const forms: Form[] = [
  nBits(4, 32, 4, false),
  nBits(4, 32, 4, true),
  nBits(4, 32, 0, false),
  nBits(4, 64, 4, false),
  nBits(8, 32, 4, false),
  nBits(8, 32, 4, true),
  nBits(8, 64, 4, true),
  nBits(8, 32, 0, true),
  {
    name: 'f32 MatMul [K,N], constant',
    build: (graph, x, n, k, weights, prefix) =>
      graph.op('MatMul', [x, declare(graph, weights, `${prefix}w`, random(OrtValue.allocate('float32', [k, n]), 1 / Math.sqrt(k)))]),
  },
  {
    name: 'f32 FusedMatMul transB [N,K], constant',
    build: (graph, x, n, k, weights, prefix) =>
      graph.op('FusedMatMul', [x, declare(graph, weights, `${prefix}w`, random(OrtValue.allocate('float32', [n, k]), 1 / Math.sqrt(k)))], {
        domain: microsoft,
        attributes: { transB: int(1) },
      }),
  },
  {
    name: 'f32 FusedMatMul transB [N,K], graph input',
    build: (graph, x, n, k, weights, prefix) => {
      weights.set(`${prefix}w`, random(OrtValue.allocate('float32', [n, k]), 1 / Math.sqrt(k)));
      return graph.op('FusedMatMul', [x, graph.input(`${prefix}w`, 'float32', [n, k])], {
        domain: microsoft,
        attributes: { transB: int(1) },
      });
    },
  },
  {
    name: 'f32 Gemm transB [N,K], constant',
    build: (graph, x, n, k, weights, prefix) =>
      graph.op('Gemm', [x, declare(graph, weights, `${prefix}w`, random(OrtValue.allocate('float32', [n, k]), 1 / Math.sqrt(k)))], {
        attributes: { transB: int(1) },
      }),
  },
];

/**
 * Milliseconds of a run of `m` rows: mean processor time (of all threads; other work on the machine hardly changes it) and least
 * elapsed time. `build` makes the output from `x [m, k]`.
 */
async function measure(
  m: number,
  k: number,
  build: (graph: GraphBuilder, x: string, weights: Map<string, OrtValue>) => string,
  n: number,
): Promise<string> {
  const graph = new GraphBuilder('kernels');
  const weights = new Map<string, OrtValue>();
  const y = build(graph, graph.input('x', 'float32', ['M', k]), weights);
  graph.output(y, 'float32', ['M', n]);
  const inputNames = new Set(graph.graph.input.map((input) => input.name));
  const initializers = new Map([...weights].filter(([name]) => !inputNames.has(name)));
  const inputs = Object.fromEntries([...weights].filter(([name]) => inputNames.has(name)));
  using session = await environment.createSession(graph.toBytes(), { intraOpThreads: threads, initializers });
  using input = random(OrtValue.allocate('float32', [m, k]));
  using output = OrtValue.allocate('float32', [m, n]);
  using binding = session.bind({ inputs: { ...inputs, x: input }, outputs: { [y]: output } });
  await session.run(binding);
  await session.run(binding);
  let least = Number.POSITIVE_INFINITY;
  let runs = 0;
  const before = process.cpuUsage();
  for (const until = performance.now() + 500; runs < 3 || (performance.now() < until && runs < 400); runs += 1) {
    const start = performance.now();
    await session.run(binding);
    least = Math.min(least, performance.now() - start);
  }
  const { user, system } = process.cpuUsage(before);
  for (const value of weights.values()) value[Symbol.dispose]();
  return `${((user + system) / 1000 / runs).toFixed(3)}/${least.toFixed(3)}`;
}

/** The linear layers of SmolLM2-135M one after the other, so that weights come from memory and not from the cache. */
function stack(form: Form, graph: GraphBuilder, x: string, weights: Map<string, OrtValue>): string {
  const zero = graph.initializer('zero', 'int64', [1], [0]);
  const axis = graph.initializer('axis', 'int64', [1], [1]);
  const ends = new Map([576, 1536].map((end) => [end, graph.initializer(`end.${end}`, 'int64', [1], [end])]));
  let hidden = x;
  for (let layer = 0; layer < 30; layer += 1) {
    for (const [index, [n, k, kept]] of layerShapes.entries()) {
      const layerWeights = new Map<string, OrtValue>();
      hidden = form.build(graph, hidden, n, k, layerWeights, `${layer}.${index}.`);
      for (const [name, value] of layerWeights) weights.set(name, value);
      if (kept !== n) hidden = graph.op('Slice', [hidden, zero, ends.get(kept) as string, axis]);
    }
  }
  return hidden;
}

/** N, K and how many columns the next layer reads. */
const layerShapes: [n: number, k: number, kept: number][] = [
  [960, 576, 576],
  [576, 576, 576],
  [3072, 576, 1536],
  [576, 1536, 576],
];

const shapes: [n: number, k: number][] = [
  [960, 576],
  [576, 576],
  [3072, 576],
  [576, 1536],
  [49152, 576],
];

process.stdout.write(
  `${cpus()[0]?.model}, ${threads} threads, ONNX Runtime ${environment.version}; ms a run: processor time/least elapsed\n`,
);
for (const m of [1, 256]) {
  const titles = [...shapes.map(([n, k]) => `N=${n} K=${k}`), '30 layers'];
  process.stdout.write(`\n| M=${m} | ${titles.join(' | ')} |\n|---|${'---|'.repeat(titles.length)}\n`);
  for (const form of forms) {
    const cells: string[] = [];
    for (const [n, k] of shapes)
      cells.push(m > 1 && n > 10000 ? '-' : await measure(m, k, (graph, x, weights) => form.build(graph, x, n, k, weights, ''), n));
    cells.push(await measure(m, 576, (graph, x, weights) => stack(form, graph, x, weights), 576));
    process.stdout.write(`| ${form.name} | ${cells.join(' | ')} |\n`);
  }
}
environment[Symbol.dispose]();
