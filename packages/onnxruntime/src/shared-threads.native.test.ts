import { expect, test } from 'vitest';
import { Environment, GraphBuilder, OrtOptionsError, OrtValue } from './index.ts';

// In a file of its own, because a process has one ONNX Runtime environment and the first one decides about threads.

function square(): Uint8Array {
  const graph = new GraphBuilder('square');
  const x = graph.input('x', 'float32', [2, 2]);
  graph.output(graph.op('MatMul', [x, x], { output: 'y' }), 'float32', [2, 2]);
  return graph.toBytes();
}

test('sessions share the threads of an environment that has them, and later environments share them too', async () => {
  using environment = Environment.create({ sharedThreads: 2 });
  using second = Environment.create();
  expect(second.sharesThreads).toBe(true);
  for (const each of [environment, second]) {
    using session = await each.createSession(square(), {});
    using x = OrtValue.from('float32', [2, 2], [1, 1, 0, 1]);
    using y = OrtValue.allocate('float32', [2, 2]);
    using binding = session.bind({ inputs: { x }, outputs: { y } });
    await session.run(binding);
    expect([...y.view]).toEqual([1, 2, 0, 1]);
  }
});

test('once the last environment is gone, the next one decides anew', async () => {
  using environment = Environment.create();
  expect(environment.sharesThreads).toBe(false);
  await expect(environment.createSession(square(), {})).rejects.toThrow(OrtOptionsError);
  using late = Environment.create({ sharedThreads: 1 });
  expect(late.sharesThreads).toBe(false);
});
