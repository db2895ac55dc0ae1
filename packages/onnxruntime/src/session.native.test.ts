import { DisposedError } from '@graft/common';
import { afterAll, expect, test } from 'vitest';
import { Environment, float, GraphBuilder, int, OrtCallError, OrtNameError, OrtOptionsError, Value } from './index.ts';

const environment = Environment.create();
afterAll(() => environment[Symbol.dispose]());

/** y = x * w + 1, x [rows, 3]. */
function affine(): Uint8Array {
  const graph = new GraphBuilder('affine');
  const x = graph.input('x', 'float32', ['rows', 3]);
  const w = graph.initializer('w', 'float32', [3, 2], [1, 2, 3, 4, 5, 6]);
  const b = graph.initializer('b', 'float32', [2], [1, 1]);
  graph.output(graph.op('Add', [graph.op('MatMul', [x, w]), b], { output: 'y' }), 'float32', ['rows', 2]);
  return graph.toBytes();
}

test('a session made from bytes computes what its graph says, into memory of ours', () => {
  using session = environment.createSession(affine(), { intraOpThreads: 1 });
  using x = Value.from('float32', [2, 3], [1, 0, 0, 1, 1, 1]);
  using y = Value.allocate('float32', [2, 2]);
  using binding = session.bind({ inputs: { x }, outputs: { y } });
  session.runSync(binding);
  expect([...y.view]).toEqual([2, 3, 10, 13]); // rows of w summed, plus 1
});

test('a run off the event loop writes the same', async () => {
  using session = await environment.createSessionAsync(affine(), { intraOpThreads: 1 });
  using x = Value.from('float32', [1, 3], [0, 1, 0]);
  using y = Value.allocate('float32', [1, 2]);
  using binding = session.bind({ inputs: { x }, outputs: { y } });
  await session.run(binding);
  expect([...y.view]).toEqual([4, 5]);
});
