import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { MappedFile, PinnedBuffer } from '@graft/system';
import { afterAll, expect, test } from 'vitest';
import { Environment, GraphBuilder, int, OrtCallError, OrtValue } from './index.ts';

// Weights over memory of ours, given to a session in place of its model's initializers.
const N = 8192;
const K = 2048;
const BLOCK = 32;
const BLOCKS = (N * K) / BLOCK;

const environment = Environment.create();
const folder = mkdtempSync(join(tmpdir(), 'graft-weights-'));
afterAll(() => {
  environment[Symbol.dispose]();
  rmSync(folder, { recursive: true });
});

/** The 8-bit weight of [n, k], its block's scale and zero point, by a rule that is cheap to repeat. */
const quant = (index: number) => (Math.imul(index, 2654435761) >>> 13) & 255;
const scale = (block: number) => 0.001 * (1 + (block % 7));
const zeroPoint = (block: number) => 120 + (block % 16);

/** B, scales and zero points one after the other: 16, 2 and 0.5 MiB. */
function weightBytes(): Uint8Array<ArrayBuffer> {
  const bytes = new Uint8Array(N * K + BLOCKS * 4 + BLOCKS);
  for (let index = 0; index < N * K; index += 1) bytes[index] = quant(index);
  const scales = new Float32Array(bytes.buffer, N * K, BLOCKS);
  for (let block = 0; block < BLOCKS; block += 1) {
    scales[block] = scale(block);
    bytes[N * K + BLOCKS * 4 + block] = zeroPoint(block);
  }
  return bytes;
}

function linear(): Uint8Array {
  const graph = new GraphBuilder('linear');
  const inputs = [
    graph.input('x', 'float32', ['tokens', K]),
    graph.externalInitializer('b', 'uint8', [N, K / BLOCK, BLOCK]),
    graph.externalInitializer('scales', 'float32', [BLOCKS]),
    graph.externalInitializer('zero_points', 'uint8', [BLOCKS]),
  ];
  const attributes = { N: int(N), K: int(K), bits: int(8), block_size: int(BLOCK), accuracy_level: int(4) };
  graph.output(graph.op('MatMulNBits', inputs, { domain: 'com.microsoft', attributes, output: 'y' }), 'float32', ['tokens', N]);
  return graph.toBytes();
}

function weights(memory: MappedFile | PinnedBuffer): Map<string, OrtValue> {
  return new Map<string, OrtValue>([
    ['b', OrtValue.over(memory, 'uint8', [N, K / BLOCK, BLOCK])],
    ['scales', OrtValue.over(memory, 'float32', [BLOCKS], N * K)],
    ['zero_points', OrtValue.over(memory, 'uint8', [BLOCKS], N * K + BLOCKS * 4)],
  ]);
}

const activations = Float32Array.from({ length: K }, (_, index) => Math.sin(index));

/** The largest error against the dequantised weights over a few outputs, relative to the size of an output. */
function relativeError(y: Float32Array): number {
  let error = 0;
  let size = 0;
  for (let n = 0; n < N; n += 97) {
    let expected = 0;
    for (let k = 0; k < K; k += 1) {
      const block = Math.floor((n * K + k) / BLOCK);
      expected += activations[k]! * (quant(n * K + k) - zeroPoint(block)) * scale(block);
    }
    error += (y[n]! - expected) ** 2;
    size += expected ** 2;
  }
  return Math.sqrt(error / size);
}

function anonymousMiB(): number {
  return Number(/Anonymous:\s+(\d+) kB/.exec(readFileSync('/proc/self/smaps_rollup', 'utf8'))![1]) / 1024;
}

test('8-bit weights over a mapped file are right, packed once at load, and the file is not needed in memory afterwards', async () => {
  const path = join(folder, 'weights.bin');
  const bytes = weightBytes(); // kept until the memory is measured: a collection in between would count as less
  writeFileSync(path, bytes);
  const file = MappedFile.open(path);
  const initializers = weights(file);
  const before = anonymousMiB();
  using session = await environment.createSession(linear(), { intraOpThreads: 1, initializers });
  const grown = anonymousMiB() - before;
  expect(bytes.length).toBe(file.byteLength);
  expect(grown).toBeGreaterThan(15); // the packed form of 16 MiB exists ...
  expect(grown).toBeLessThan(16 * 1.5 + 6); // ... once; with scales and block sums packed as well
  file.discard();
  for (const resource of [...initializers.values(), file]) resource[Symbol.dispose]();
  expect(file.released).toBe(false); // the session keeps it

  using x = OrtValue.from('float32', [1, K], activations);
  using y = OrtValue.allocate('float32', [1, N]);
  using binding = session.bind({ inputs: { x }, outputs: { y } });
  await session.run(binding);
  expect(relativeError(y.view)).toBeLessThan(0.015); // activations are rounded to 8 bits (accuracy level 4)

  session[Symbol.dispose]();
  binding[Symbol.dispose]();
  expect(file.released).toBe(true);
});

test('pinned weights whose B is discarded after the load still compute: B was packed', async () => {
  using memory = PinnedBuffer.from(weightBytes());
  const initializers = weights(memory);
  using session = await environment.createSession(linear(), { intraOpThreads: 1, initializers });
  memory.discard(0, N * K);
  using x = OrtValue.from('float32', [1, K], activations);
  using y = OrtValue.allocate('float32', [1, N]);
  using binding = session.bind({ inputs: { x }, outputs: { y } });
  await session.run(binding);
  expect(relativeError(y.view)).toBeLessThan(0.015);
  for (const value of initializers.values()) value[Symbol.dispose]();
  expect(memory.bytes(N * K, 4).some((byte) => byte !== 0)).toBe(true);
});

test('a load fails when the optimiser would fold an external initializer', async () => {
  const graph = new GraphBuilder('folded');
  const x = graph.input('x', 'float32', [1, 2]);
  const turned = graph.op('Transpose', [graph.externalInitializer('w', 'float32', [2, 2])]);
  graph.output(graph.op('MatMul', [x, turned], { output: 'y' }), 'float32', [1, 2]);
  using w = OrtValue.from('float32', [2, 2], [1, 2, 3, 4]);
  const load = () => environment.createSession(graph.toBytes(), { intraOpThreads: 1, initializers: new Map([['w', w]]) });
  await expect(load()).rejects.toThrow(OrtCallError);
});

test('an initializer of other dims, and one that is missing, are refused by ONNX Runtime', async () => {
  using wrong = OrtValue.allocate('uint8', [N]);
  using memory = PinnedBuffer.from(weightBytes());
  const initializers = weights(memory).set('b', wrong);
  await expect(environment.createSession(linear(), { intraOpThreads: 1, initializers })).rejects.toThrow(OrtCallError);
  initializers.delete('b');
  await expect(environment.createSession(linear(), { intraOpThreads: 1, initializers })).rejects.toThrow(OrtCallError);
});
