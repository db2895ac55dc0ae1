import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { GraftError } from '@graft/common';
import { Module, Parameter } from '@graft/graph';
import { expect, onTestFinished } from 'vitest';

/** A folder that is removed when the test ends. */
export function temporaryFolder(): string {
  const path = mkdtempSync(join(tmpdir(), 'graft-weights-'));
  onTestFinished(() => rmSync(path, { recursive: true, force: true }));
  return path;
}

export function temporaryFile(name: string, bytes: Uint8Array | string): string {
  const path = join(temporaryFolder(), name);
  writeFileSync(path, bytes);
  return path;
}

export interface TestTensor {
  dtype: string;
  shape: readonly number[];
  data: Uint8Array;
}

/** A safetensors file with this header text and these data bytes, whatever they say. */
export function safetensorsBytes(header: string, data: Uint8Array = new Uint8Array(0), headerLength?: bigint): Uint8Array {
  const json = new TextEncoder().encode(header);
  const length = new Uint8Array(8);
  new DataView(length.buffer).setBigUint64(0, headerLength ?? BigInt(json.byteLength), true);
  return concatenate([length, json, data]);
}

/** A valid safetensors file. */
export function safetensorsOf(tensors: Record<string, TestTensor>): Uint8Array {
  let offset = 0;
  const header: Record<string, unknown> = { __metadata__: { format: 'pt' } };
  for (const [key, { dtype, shape, data }] of Object.entries(tensors)) {
    header[key] = { dtype, shape, data_offsets: [offset, offset + data.byteLength] };
    offset += data.byteLength;
  }
  return safetensorsBytes(JSON.stringify(header), concatenate(Object.values(tensors).map(({ data }) => data)));
}

export interface TestGguf {
  version?: number;
  tensorCount?: bigint;
  keyCount?: bigint;
  /** Raw bytes of a key and its value, as `ggufKey` makes them. */
  keys?: Uint8Array[];
  tensors?: { name: string; dims: (number | bigint)[]; type: number; offset?: number | bigint; data?: Uint8Array }[];
}

/** A GGUF byte by byte; what is not given is as it should be. Data are padded to 32. */
export function ggufBytes({
  version = 3,
  keys = [],
  tensors = [],
  tensorCount = BigInt(tensors.length),
  keyCount = BigInt(keys.length),
}: TestGguf): Uint8Array {
  const parts = [new TextEncoder().encode('GGUF'), u32(version), u64(tensorCount), u64(keyCount), ...keys];
  let offset = 0;
  for (const tensor of tensors) {
    parts.push(ggufString(tensor.name), u32(tensor.dims.length), ...tensor.dims.map(u64), u32(tensor.type), u64(tensor.offset ?? offset));
    offset += padded(tensor.data ?? new Uint8Array(0)).byteLength;
  }
  return concatenate([padded(concatenate(parts)), ...tensors.map(({ data = new Uint8Array(0) }) => padded(data))]);
}

export function ggufKey(name: string, type: number, value: Uint8Array): Uint8Array {
  return concatenate([ggufString(name), u32(type), value]);
}

export function ggufString(text: string): Uint8Array {
  const bytes = new TextEncoder().encode(text);
  return concatenate([u64(bytes.byteLength), bytes]);
}

export function u32(value: number): Uint8Array {
  return new Uint8Array(Uint32Array.of(value).buffer);
}

export function u64(value: number | bigint): Uint8Array {
  return new Uint8Array(BigUint64Array.of(BigInt(value)).buffer);
}

export function f32(...values: number[]): Uint8Array {
  return new Uint8Array(Float32Array.from(values).buffer);
}

/** The smallest `llama` GGUF keys: hidden 32, one layer, two heads of 16 over one KV head, vocabulary from the embedding. */
export function llamaKeys(): Uint8Array[] {
  const number = (name: string, value: number) => ggufKey(`llama.${name}`, 4, u32(value));
  return [
    ggufKey('general.architecture', 8, ggufString('llama')),
    number('block_count', 1),
    number('context_length', 64),
    number('embedding_length', 32),
    number('feed_forward_length', 64),
    number('attention.head_count', 2),
    number('attention.head_count_kv', 1),
    ggufKey('llama.attention.layer_norm_rms_epsilon', 6, f32(1e-5)),
    ggufKey('llama.rope.freq_base', 6, f32(10000)),
    number('rope.dimension_count', 16),
  ];
}

/** A module tree that has these parameters. */
export function moduleOf(shapes: Record<string, readonly number[]>): Module {
  const root = new Module();
  for (const [name, shape] of Object.entries(shapes)) {
    const path = name.split('.');
    let host = root as unknown as Record<string, Module | Parameter>;
    for (const part of path.slice(0, -1)) {
      host[part] ??= new Module();
      host = host[part] as unknown as Record<string, Module | Parameter>;
    }
    host[path.at(-1)!] = new Parameter(shape);
  }
  return root;
}

/** Runs what must fail, and gives its error: ours, and without large allocations. */
export async function failure(run: () => unknown): Promise<GraftError> {
  const before = process.memoryUsage().arrayBuffers;
  let thrown: unknown = null;
  try {
    await run();
  } catch (error) {
    thrown = error;
  }
  expect(process.memoryUsage().arrayBuffers - before).toBeLessThan(64 * 2 ** 20);
  if (!GraftError.is(thrown)) throw new Error('This did not fail with an error of ours.', { cause: thrown });
  return thrown;
}

function padded(bytes: Uint8Array): Uint8Array {
  return concatenate([bytes, new Uint8Array((32 - (bytes.byteLength % 32)) % 32)]);
}

export function concatenate(parts: readonly Uint8Array[]): Uint8Array {
  const all = new Uint8Array(parts.reduce((sum, part) => sum + part.byteLength, 0));
  let offset = 0;
  for (const part of parts) {
    all.set(part, offset);
    offset += part.byteLength;
  }
  return all;
}
