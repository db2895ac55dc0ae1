import { setImmediate as turn } from 'node:timers/promises';
import v8 from 'node:v8';
import vm from 'node:vm';
import { DisposedError } from '@graft/common';
import { PinnedBuffer } from '@graft/system';
import { afterAll, expect, test } from 'vitest';
import { Environment, GraphBuilder, OrtBusyError, OrtOptionsError, OrtValue } from './index.ts';

v8.setFlagsFromString('--expose-gc');
const collectGarbage = vm.runInNewContext('gc') as () => void;

const environment = Environment.create();
afterAll(() => environment[Symbol.dispose]());
const one = { intraOpThreads: 1 };

/** y = x + x, done `depth` times over matrix products so that it takes a while. */
function model(size: number, depth: number): Uint8Array {
  const graph = new GraphBuilder('model');
  let x = graph.input('x', 'float32', [size, size]);
  for (let layer = 0; layer < depth; layer += 1) x = graph.op('MatMul', [x, x]);
  graph.output(graph.op('Add', [x, x], { output: 'y' }), 'float32', [size, size]);
  return graph.toBytes();
}

const slow = model(384, 20);
const quick = model(2, 0);

test('resources that are disposed during a run are freed when the run ends', async () => {
  const own = Environment.create();
  const session = await own.createSession(slow, one);
  const memory = PinnedBuffer.allocate(384 * 384 * 4);
  const x = OrtValue.allocate('float32', [384, 384]);
  const y = OrtValue.over(memory, 'float32', [384, 384]);
  const binding = session.bind({ inputs: { x }, outputs: { y } });
  const run = session.run(binding);
  for (const resource of [own, memory, x, y, session, binding]) resource[Symbol.dispose]();
  expect([own, memory, x, y, session, binding].map((resource) => resource.released)).toEqual([false, false, false, false, false, false]);
  await run;
  expect([own, memory, x, y, session, binding].map((resource) => resource.released)).toEqual([true, true, true, true, true, true]);
});

test('disposing in any order and twice is harmless, and later use names the disposed resource', async () => {
  const orders = [
    [0, 1, 2, 3, 4],
    [4, 3, 2, 1, 0],
    [2, 0, 4, 1, 3],
  ];
  for (const order of orders) {
    const own = Environment.create();
    const session = await own.createSession(quick, one);
    const x = OrtValue.from('float32', [2, 2], [1, 2, 3, 4]);
    const y = OrtValue.allocate('float32', [2, 2]);
    const binding = session.bind({ inputs: { x }, outputs: { y } });
    await session.run(binding);
    const resources = [own, session, x, y, binding];
    for (const index of [...order, ...order]) resources[index]![Symbol.dispose]();
    expect(resources.every((resource) => resource.released)).toBe(true);
    await expect(session.run(binding)).rejects.toThrow(DisposedError);
    expect(() => session.bind({})).toThrow('The session was disposed');
    expect(() => binding.bindInput('x', x)).toThrow('The binding was disposed');
    expect(() => session.endProfiling()).toThrow(DisposedError);
    await expect(own.createSession(quick, one)).rejects.toThrow('The ONNX Runtime environment was disposed');
  }
});

test('a disposed value cannot be bound, and a disposed binding cannot run', async () => {
  using session = await environment.createSession(quick, one);
  const x = OrtValue.allocate('float32', [2, 2]);
  x[Symbol.dispose]();
  expect(() => session.bind({}).bindInput('x', x)).toThrow(DisposedError);
  const binding = session.bind({});
  binding[Symbol.dispose]();
  await expect(session.run(binding)).rejects.toThrow(DisposedError);
});

test('a binding can neither be changed nor run during a run', async () => {
  using session = await environment.createSession(slow, one);
  using x = OrtValue.allocate('float32', [384, 384]);
  using y = OrtValue.allocate('float32', [384, 384]);
  using binding = session.bind({ inputs: { x }, outputs: { y } });
  const run = session.run(binding);
  expect(() => binding.bindInput('x', y)).toThrow(OrtBusyError);
  await expect(session.run(binding)).rejects.toThrow(OrtBusyError);
  await run;
  binding.bindInput('x', y);
});

test('a binding of another session is refused', async () => {
  using session = await environment.createSession(quick, one);
  using other = await environment.createSession(quick, one);
  using binding = other.bind({});
  await expect(session.run(binding)).rejects.toThrow(OrtOptionsError);
});

test('under forced garbage collection, two sequences on one session give the same results throughout', async () => {
  using session = await environment.createSession(model(24, 2), one);
  const sequence = async (seed: number) => {
    const start = Float32Array.from({ length: 576 }, (_, index) => Math.sin(index + seed) / 24);
    const results = new Set<string>();
    for (let step = 0; step < 60; step += 1) {
      const y = OrtValue.allocate('float32', [24, 24]);
      // Nothing but the binding keeps the input alive.
      using binding = session.bind({ inputs: { x: OrtValue.from('float32', [24, 24], start) }, outputs: { y } });
      await session.run(binding);
      if (step % 5 === 0) {
        collectGarbage();
        await turn(); // finalizers run between turns
      }
      results.add(y.view.join());
      y[Symbol.dispose]();
    }
    return results;
  };
  const [first, second] = await Promise.all([sequence(1), sequence(2)]);
  expect([first!.size, second!.size]).toEqual([1, 1]);
  expect(first).not.toEqual(second);
});

test('memory of disposed values is given back: 400 times 8 MiB fit', () => {
  for (let round = 0; round < 400; round += 1) {
    using value = OrtValue.allocate('float32', [2 ** 21]);
    value.view[round] = 1;
  }
  const residentMiB = process.memoryUsage().rss / 2 ** 20;
  expect(residentMiB).toBeLessThan(1000);
});
