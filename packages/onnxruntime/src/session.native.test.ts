import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setImmediate as turn } from 'node:timers/promises';
import { afterAll, expect, test } from 'vitest';
import { Environment, GraphBuilder, OrtCallError, OrtNameError, OrtOptionsError, OrtValue } from './index.ts';

const environment = Environment.create();
const folder = mkdtempSync(join(tmpdir(), 'graft-ort-'));
afterAll(() => {
  environment[Symbol.dispose]();
  rmSync(folder, { recursive: true });
});

const one = { intraOpThreads: 1 };

/** y = x * w + 1, x [rows, 3], w = [[1, 2], [3, 4], [5, 6]]. */
function affine(): Uint8Array {
  const graph = new GraphBuilder('affine');
  const x = graph.input('x', 'float32', ['rows', 3]);
  const w = graph.initializer('w', 'float32', [3, 2], [1, 2, 3, 4, 5, 6]);
  const b = graph.initializer('b', 'float32', [2], [1, 1]);
  graph.output(graph.op('Add', [graph.op('MatMul', [x, w]), b], { output: 'y' }), 'float32', ['rows', 2]);
  return graph.toBytes();
}

/** A model whose run takes about half a second. */
function slow(): Uint8Array {
  const graph = new GraphBuilder('slow');
  let x = graph.input('x', 'float32', [512, 512]);
  for (let layer = 0; layer < 60; layer += 1) x = graph.op('MatMul', [x, x]);
  graph.output(x, 'float32', [512, 512]);
  return graph.toBytes();
}

test('a run writes the results of the graph into the bound memory', async () => {
  using session = await environment.createSession(affine(), one);
  using x = OrtValue.from('float32', [2, 3], [1, 0, 0, 1, 1, 1]);
  using y = OrtValue.allocate('float32', [2, 2]);
  using binding = session.bind({ inputs: { x }, outputs: { y } });
  await session.run(binding);
  expect([...y.view]).toEqual([2, 3, 10, 13]); // rows of w summed, plus 1
});

test('a session lists the names of its inputs and outputs', async () => {
  using session = await environment.createSession(affine(), one);
  expect([session.inputNames, session.outputNames]).toEqual([['x'], ['y']]);
});

test('a rebound input and output are used, and the values bound before stay unchanged', async () => {
  using session = await environment.createSession(affine(), one);
  using x = OrtValue.from('float32', [1, 3], [1, 0, 0]);
  using other = OrtValue.from('float32', [1, 3], [0, 0, 1]);
  using y = OrtValue.allocate('float32', [1, 2]);
  using y2 = OrtValue.allocate('float32', [1, 2]);
  using binding = session.bind({ inputs: { x }, outputs: { y } });
  await session.run(binding);
  await session.run(binding.bindInput('x', other).bindOutput('y', y2));
  expect([[...y.view], [...y2.view]]).toEqual([
    [2, 3],
    [6, 7],
  ]);
});

test('the error of a failed call has the function, the code and the message of ONNX Runtime', async () => {
  const load = () => environment.createSession(Uint8Array.of(1, 2, 3), one);
  await expect(load()).rejects.toThrow(OrtCallError);
  await expect(load()).rejects.toThrow(/ModelProto|protobuf/i);
  await expect(load()).rejects.toMatchObject({
    code: 'GRAFT_ORT_CALL',
    call: 'CreateSessionFromArray',
    status: 'INVALID_PROTOBUF',
  });
  using session = await environment.createSession(affine(), one);
  using x = OrtValue.allocate('float32', [1, 4]); // the model wants 3 columns
  using y = OrtValue.allocate('float32', [1, 2]);
  using binding = session.bind({ inputs: { x }, outputs: { y } });
  await expect(session.run(binding)).rejects.toMatchObject({ call: 'RunWithBinding', status: 'INVALID_ARGUMENT' });
  await expect(session.run(binding)).rejects.toThrow(/Expected: 3/);
});

test('an unknown name is refused with the names that exist', async () => {
  using session = await environment.createSession(affine(), one);
  using value = OrtValue.allocate('float32', [1, 3]);
  expect(() => session.bind({ inputs: { X: value } })).toThrow(OrtNameError);
  expect(() => session.bind({ outputs: { z: value } })).toThrow('use one of: y.');
});

test('a session without intraOpThreads is refused when its environment shares no threads', async () => {
  await expect(environment.createSession(affine(), {})).rejects.toThrow(OrtOptionsError);
});

test('an aborted run stops early and rejects with the reason; the next run succeeds', async () => {
  using session = await environment.createSession(slow(), one);
  using x = OrtValue.allocate('float32', [512, 512]);
  using y = OrtValue.allocate('float32', [512, 512]);
  y.view.fill(7);
  using binding = session.bind({ inputs: { x }, outputs: { [session.outputNames[0]!]: y } });
  const controller = new AbortController();
  const reason = new Error('enough');
  const running = session.run(binding, { signal: controller.signal });
  controller.abort(reason);
  await expect(running).rejects.toBe(reason);
  expect(y.view.every((value) => value === 7)).toBe(true); // the last node did not run
  await expect(session.run(binding, { signal: controller.signal })).rejects.toBe(reason); // not even started
  await session.run(binding, { signal: new AbortController().signal });
});

test('the event loop turns while a run is in flight', async () => {
  using session = await environment.createSession(slow(), one);
  using x = OrtValue.allocate('float32', [512, 512]);
  using y = OrtValue.allocate('float32', [512, 512]);
  using binding = session.bind({ inputs: { x }, outputs: { [session.outputNames[0]!]: y } });
  let running = true;
  const run = session.run(binding).finally(() => (running = false));
  for (let turns = 0; turns < 5; turns++) await turn();
  expect(running).toBe(true);
  await run;
});

test('an aborted load rejects with the reason', async () => {
  const controller = new AbortController();
  const loading = environment.createSession(slow(), { ...one, signal: controller.signal });
  controller.abort();
  await expect(loading).rejects.toMatchObject({ name: 'AbortError' });
});

test('endProfiling returns the path of a profile that names the nodes', async () => {
  using session = await environment.createSession(affine(), { ...one, profilePath: join(folder, 'profile') });
  using x = OrtValue.allocate('float32', [1, 3]);
  using y = OrtValue.allocate('float32', [1, 2]);
  using binding = session.bind({ inputs: { x }, outputs: { y } });
  await session.run(binding);
  expect(readFileSync(session.endProfiling(), 'utf8')).toContain('MatMul');
});

test('the optimised model is written to optimizedModelPath, and loads', async () => {
  const path = join(folder, 'optimised.onnx');
  (await environment.createSession(affine(), { ...one, optimizedModelPath: path }))[Symbol.dispose]();
  using session = await environment.createSession(readFileSync(path), { ...one, graphOptimization: 'off' });
  expect(session.inputNames).toEqual(['x']);
});
