import { DisposedError } from '@graft/common';
import { afterAll, expect, test } from 'vitest';
import {
  DeviceBuffer,
  devices,
  GgmlBusyError,
  GgmlTensorError,
  type Graph,
  GraphBuilder,
  GraphMemory,
  Stream,
  type Tensor,
  TensorArena,
} from './index.ts';

const [device] = devices();
const stream = new Stream(device!, { threads: 1 });
const memory = new GraphMemory(device!);
afterAll(() => {
  memory[Symbol.dispose]();
  stream[Symbol.dispose]();
});

function graphOf(make: (builder: GraphBuilder) => Tensor): { graph: Graph; output: Tensor } {
  const builder = new GraphBuilder();
  const output = make(builder);
  return { graph: builder.build([output], memory), output };
}

async function compute(make: (builder: GraphBuilder) => Tensor, ...inputs: (Float32Array | Int32Array)[]): Promise<number[]> {
  const { graph, output } = graphOf(make);
  using _ = graph;
  await stream.compute(graph, new Map(graph.inputs.map((input, i) => [input, inputs[i]!])));
  const result = new Float32Array(output.elements);
  graph.read(output, result);
  return [...result];
}

const floats = (...values: number[]): Float32Array => Float32Array.from(values);

test('the device is this processor, with its memory', () => {
  expect(device).toMatchObject({ name: 'CPU', type: 'CPU' });
  expect(device!.memory.total).toBeGreaterThan(2 ** 29);
});

test('a product, a sum and a constant are computed', async () => {
  const make = (b: GraphBuilder) => b.binary('add', b.matmul(b.input('F32', [3, 2]), b.input('F32', [3, 1])), b.constant(0.5));
  expect(await compute(make, floats(1, 2, 3, 4, 5, 6), floats(1, 0, 2))).toEqual([7.5, 16.5]);
});

test('constants of any size are exact', async () => {
  for (const value of [0, 1.5, -3, 1e9, -1e30, 1e-20]) expect(await compute((b) => b.constant(value))).toEqual([Math.fround(value)]);
});

test('a permuted view is copied in its order', async () => {
  const make = (b: GraphBuilder) => b.contiguous(b.permute(b.input('F32', [3, 2]), [1, 0, 2, 3]));
  expect(await compute(make, floats(1, 2, 3, 4, 5, 6))).toEqual([1, 4, 2, 5, 3, 6]);
});

test('rows are chosen by indices, and computed indices stay within the table', async () => {
  const rows = (b: GraphBuilder, indices: (x: Tensor) => Tensor) => b.getRows(b.input('F32', [2, 3]), indices(b.input('F32', [4])));
  const make = (b: GraphBuilder) => rows(b, (x) => b.indices(x, 3));
  expect(await compute(make, floats(0, 1, 2, 3, 4, 5), floats(2, -7, 99, Number.NaN))).toEqual([4, 5, 0, 1, 4, 5, 0, 1]);
  expect(() => graphOf((b) => rows(b, (x) => b.cast(x, 'I32')))).toThrow(/below nothing known; there are 3 rows/);
  expect(() => graphOf((b) => b.getRows(b.input('F32', [2, 3]), b.input('I32', [4], { below: 4 })))).toThrow(GgmlTensorError);
});

test('rows that are written to a buffer stay there for the next graph', async () => {
  using arena = new TensorArena();
  const table = arena.tensor('F32', [2, 3]);
  using buffer = DeviceBuffer.holding(device!, [table]);
  buffer.write(table, floats(1, 2, 3, 4, 5, 6));
  const write = (b: GraphBuilder) => b.contiguous(b.setRows(table, b.input('F32', [2, 1]), b.input('I32', [1], { below: 3 })));
  expect(await compute(write, floats(9, 8), Int32Array.of(1))).toEqual([1, 2, 9, 8, 5, 6]);
  expect(await compute((b) => b.scale(table, 2))).toEqual([2, 4, 18, 16, 10, 12]);
});

const refused: Record<string, (b: GraphBuilder) => unknown> = {
  'a size of 0': (b) => b.input('F32', [0, 2]),
  'five axes': (b) => b.input('F32', [1, 1, 1, 1, 1]),
  'rows that are not made of blocks': () => new TensorArena().tensor('Q4_0', [48]),
  'a product of different lengths': (b) => b.matmul(b.input('F32', [3, 2]), b.input('F32', [4, 1])),
  'operands that do not repeat': (b) => b.binary('add', b.input('F32', [3]), b.input('F32', [2])),
  'a view past the end': (b) => b.view(b.input('F32', [4, 2]), [4, 2], [4, 16, 32, 32], 4),
  'a view of a view past the end': (b) => b.view(b.view(b.input('F32', [8]), [4], [4, 16, 16, 16], 16), [5], [4, 20, 20, 20]),
  'a view at half an element': (b) => b.view(b.input('F32', [4]), [1], [4, 4, 4, 4], 2),
  'a shape of other elements': (b) => b.reshape(b.input('F32', [4]), [3]),
  'an order with an axis twice': (b) => b.permute(b.input('F32', [4]), [0, 0, 2, 3]),
  'sorting more than there is': (b) => b.argsort(b.input('F32', [4]), 5),
  'a mask of another length': (b) => {
    const [q, kv] = [b.input('F32', [8, 2, 4]), b.input('F32', [8, 6, 2])];
    return b.attention(q, kv, kv, { scale: 1, mask: b.input('F16', [5, 2]) });
  },
  'heads that do not share': (b) =>
    b.attention(b.input('F32', [8, 2, 4]), b.input('F32', [8, 6, 3]), b.input('F32', [8, 6, 3]), { scale: 1 }),
  'an operand without memory': (b) => b.scale(new TensorArena().tensor('F32', [4]), 2),
};
test.each(Object.keys(refused))('%s is refused before ggml sees it', (name) => {
  using builder = new GraphBuilder();
  expect(() => refused[name]!(builder)).toThrow(GgmlTensorError);
});

test('a missing, short or wrong input is refused, and so is an index past the end', async () => {
  const { graph } = graphOf((b) => b.getRows(b.input('F32', [1, 3]), b.input('I32', [2], { below: 3 })));
  using _ = graph;
  const [table, indices] = graph.inputs as [Tensor, Tensor];
  const run = (...entries: [Tensor, Float32Array | Int32Array][]) => stream.compute(graph, new Map(entries));
  await expect(run([table, floats(1, 2, 3)])).rejects.toThrow('The input is missing.');
  await expect(run([table, floats(1, 2)], [indices, Int32Array.of(0, 1)])).rejects.toThrow('The input has 3 elements; 2 were given.');
  await expect(run([table, Int32Array.of(1, 2, 3)], [indices, Int32Array.of(0, 1)])).rejects.toThrow('The data is Int32Array.');
  await expect(run([table, floats(1, 2, 3)], [indices, Int32Array.of(0, 3)])).rejects.toThrow('Index 3 is not from 0 to 2.');
});

/** Products for about a second. */
const slow = (b: GraphBuilder): Tensor => {
  const weight = b.input('F32', [1024, 1024]);
  let x = b.input('F32', [1024, 64]);
  for (let i = 0; i < 100; i++) x = b.unary('tanh', b.matmul(weight, x));
  return x;
};
const slowInputs = (graph: Graph) => new Map(graph.inputs.map((input) => [input, new Float32Array(input.elements).fill(0.01)]));

test('each computation places a window over a buffer, within it', async () => {
  const arena = new TensorArena();
  const table = arena.tensor('F32', [2, 4]);
  using buffer = DeviceBuffer.holding(device!, [table]);
  buffer.write(table, floats(1, 2, 3, 4, 5, 6, 7, 8));
  const builder = new GraphBuilder();
  const window = builder.window(table, [2, 2], [4, 8, 16, 16]);
  const output = builder.scale(window, 10);
  using graph = builder.build([output], memory);
  const at = async (place: number): Promise<number[]> => {
    await stream.compute(graph, new Map([[window, place]]));
    const result = new Float32Array(4);
    graph.read(output, result);
    return [...result];
  };
  expect(await at(16)).toEqual([50, 60, 70, 80]);
  expect(await at(0)).toEqual([10, 20, 30, 40]);
  expect(await at(8)).toEqual([30, 40, 50, 60]);
  for (const place of [-8, 2, 24, Number.NaN]) await expect(at(place)).rejects.toThrow(GgmlTensorError);
  await expect(stream.compute(graph, new Map())).rejects.toThrow(GgmlTensorError);
  expect(() => builder.window(output, [2, 1], [4, 8, 8, 8])).toThrow(/result of this graph/);
});

test('an input that nothing reads does no harm', async () => {
  const make = (b: GraphBuilder) => {
    b.input('F32', [5]);
    return b.scale(b.input('F32', [2]), 2);
  };
  expect(await compute(make, floats(0, 0, 0, 0, 0), floats(1, 2))).toEqual([2, 4]);
});

test('an aborted computation ends with the reason of its signal, and the stream computes again', async () => {
  const { graph } = graphOf(slow);
  using _ = graph;
  const controller = new AbortController();
  const reason = new Error('the client went away');
  const run = stream.compute(graph, slowInputs(graph), controller.signal);
  await expect(stream.compute(graph, slowInputs(graph))).rejects.toThrow(GgmlBusyError);
  controller.abort(reason);
  await expect(run).rejects.toBe(reason);
  expect(await compute((b) => b.constant(2))).toEqual([2]);
});

test('several threads give what one gives', async () => {
  using two = new Stream(device!, { threads: 2 });
  const { graph, output } = graphOf((b) => b.unary('softmax', b.matmul(b.input('F32', [64, 32]), b.input('F32', [64, 8]))));
  using _ = graph;
  const inputs = new Map(
    graph.inputs.map((input, i) => [input, Float32Array.from({ length: input.elements }, (_, at) => Math.sin(at + i))]),
  );
  const results: Float32Array[] = [];
  for (const each of [stream, two]) {
    await each.compute(graph, inputs);
    const result = new Float32Array(output.elements);
    graph.read(output, result);
    results.push(result);
  }
  expect(results[1]).toEqual(results[0]);
});

test('what is disposed during a computation is freed when it ends', async () => {
  const [ownStream, ownMemory] = [new Stream(device!, { threads: 1 }), new GraphMemory(device!)];
  const builder = new GraphBuilder();
  const graph = builder.build([slow(builder)], ownMemory);
  const run = ownStream.compute(graph, slowInputs(graph));
  for (const resource of [ownMemory, ownStream, graph]) resource[Symbol.dispose]();
  expect([ownMemory, ownStream, graph].map(({ released }) => released)).toEqual([false, false, false]);
  await run;
  expect([ownMemory, ownStream, graph].map(({ released }) => released)).toEqual([true, true, true]);
  await expect(ownStream.compute(graph, new Map())).rejects.toThrow(DisposedError);
});

test('a larger graph that moves the shared memory ends the use of smaller ones', async () => {
  using own = new GraphMemory(device!);
  const build = (size: number): Graph => {
    const b = new GraphBuilder();
    return b.build([b.unary('exp', b.input('F32', [size]))], own);
  };
  using small = build(16);
  using large = build(2 ** 20);
  await expect(stream.compute(small, slowInputs(small))).rejects.toThrow('build the graph again');
  await stream.compute(large, slowInputs(large));
  using again = build(16);
  await stream.compute(again, slowInputs(again));
  await stream.compute(large, slowInputs(large));
});

test('a buffer lives until the last graph that reads it is gone', async () => {
  const arena = new TensorArena();
  const weight = arena.tensor('F32', [2]);
  const buffer = DeviceBuffer.holding(device!, [weight]);
  buffer.write(weight, floats(1, 2));
  const { graph, output } = graphOf((b) => b.scale(weight, 3));
  buffer[Symbol.dispose]();
  arena[Symbol.dispose]();
  await stream.compute(graph, new Map());
  const result = new Float32Array(2);
  graph.read(output, result);
  expect([...result, buffer.released, arena.released]).toEqual([3, 6, false, false]);
  graph[Symbol.dispose]();
  expect([buffer.released, arena.released]).toEqual([true, true]);
  expect(() => graphOf((b) => b.scale(weight, 3))).toThrow(DisposedError);
});

test('a packed matrix gives the products of a plain one, and nothing else reads it', async () => {
  const types = ['Q4_0', 'Q4_1', 'Q8_0', 'Q4_K', 'Q6_K'] as const;
  const [width, rows] = [512, 64];
  for (const type of types) {
    using arena = new TensorArena();
    const [plain, weight] = [arena.tensor(type, [width, rows]), arena.tensor(type, [width, rows])];
    const bytes = Uint8Array.from({ length: plain.bytes }, (_, i) => (i * 37 + (i >> 3)) & 0x3f); // small enough for any scale
    using buffer = DeviceBuffer.holding(device!, [plain]);
    buffer.write(plain, bytes);
    using packing = DeviceBuffer.packing(device!, weight); // null where this processor has no packed form
    if (packing === null) continue;
    packing.write(weight, bytes);
    const x = Float32Array.from({ length: width * 5 }, (_, i) => Math.sin(i));
    const product = (of: Tensor) => compute((b) => b.matmul(of, b.input('F32', [width, 5])), x);
    const [expected, actual] = [await product(plain), await product(weight)];
    const largest = Math.max(...expected.map(Math.abs));
    expect(largest).toBeGreaterThan(0);
    for (const [i, value] of expected.entries()) expect(Math.abs(actual[i]! - value)).toBeLessThan(0.01 * largest);
    expect(() => graphOf((b) => b.getRows(weight, b.input('I32', [1], { below: rows })))).toThrow('can only be the weight of products');
  }
});

test('packed matrices of experts give the products of plain ones', async () => {
  const [width, rows, experts] = [256, 32, 3];
  for (const type of ['Q4_0', 'Q4_K', 'MXFP4'] as const) {
    using arena = new TensorArena();
    const [plain, weights] = [arena.tensor(type, [width, rows, experts]), arena.tensor(type, [width, rows, experts])];
    const bytes = Uint8Array.from({ length: plain.bytes }, (_, i) => (i * 37 + (i >> 3)) & 0x3f);
    using buffer = DeviceBuffer.holding(device!, [plain]);
    buffer.write(plain, bytes);
    using packing = DeviceBuffer.packing(device!, weights); // null where this processor has no packed form
    if (packing === null) continue;
    packing.write(weights, bytes);
    const x = Float32Array.from({ length: width * 5 }, (_, i) => Math.sin(i));
    const chosen = Int32Array.of(0, 2, 1, 0, 2, 1, 1, 2, 0, 1);
    const products = (of: Tensor) =>
      compute((b) => b.matmulChosen(of, b.input('F32', [width, 1, 5]), b.input('I32', [2, 5], { below: experts })), x, chosen);
    const [expected, actual] = [await products(plain), await products(weights)];
    const largest = Math.max(...expected.map(Math.abs));
    expect(largest).toBeGreaterThan(0);
    for (const [i, value] of expected.entries()) expect(Math.abs(actual[i]! - value)).toBeLessThan(0.01 * largest);
  }
});
