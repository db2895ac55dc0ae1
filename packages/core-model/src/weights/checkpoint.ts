import { createHash } from 'node:crypto';
import { existsSync, readdirSync, statSync } from 'node:fs';
import { basename, dirname, join } from 'node:path';
import { setImmediate } from 'node:timers/promises';
import { messageOf, nearestNames, quotedList } from '@graft/common';
import { at, CheckpointMissingTensorError, CheckpointNotFoundError, corrupt, GgufUnsupportedError } from './errors.ts';
import { type FileBytes, type OpenFile, openFileBytes, refusePointer } from './file-bytes.ts';
import { type GgufHeader, readGguf } from './gguf.ts';
import { quantisations } from './quantised.ts';
import { readSafetensorsHeader } from './safetensors.ts';
import { isObject, parseJsonObject } from './strict-json.ts';

/** A tensor of a file. Row-major, outermost dimension first. */
export interface CheckpointTensor {
  readonly key: string;
  /** The file's own name for its element type: `BF16`, `F32`, `Q4_1`, ... */
  readonly dtype: string;
  readonly shape: readonly number[];
  readonly file: FileBytes;
  readonly offset: number;
  readonly byteLength: number;
}

/** A model's files, with their headers read and checked. Weights are read when they are converted. */
export interface Checkpoint extends Disposable {
  readonly path: string;
  /** The name of its format: `safetensors`, `gguf`, or one that a plugin adds. */
  readonly kind: string;
  /** The parsed config.json, not validated. Null for a GGUF: its family makes one from the metadata. */
  readonly config: unknown;
  /** A GGUF's metadata. Arrays are plain arrays; whole numbers beyond 2^53 are bigint. */
  readonly metadata: ReadonlyMap<string, unknown> | null;
  readonly tensors: ReadonlyMap<string, CheckpointTensor>;
  /** Identifies the contents; see `fingerprintOf`. Hex. */
  fingerprint(): Promise<string>;
}

/** The headers of a checkpoint, as its format reads them. */
export interface CheckpointHeaders extends Pick<Checkpoint, 'config' | 'metadata' | 'tensors'> {
  /** The length of each file's header, which a fingerprint reads whole. */
  readonly headerBytes?: ReadonlyMap<FileBytes, number>;
}

/** Reads one form of checkpoint. Tensors have the keys and shapes of the family's safetensors, except in `gguf`. */
export interface CheckpointFormat {
  readonly name: string;
  /** Whether it reads the file or folder at this path. */
  reads(path: string, isFolder: boolean): boolean;
  /** Reads the headers. @param open opens a file that is closed with the checkpoint. */
  open(path: string, open: OpenFile): CheckpointHeaders | Promise<CheckpointHeaders>;
}

/** config.json with model.safetensors, or shards and model.safetensors.index.json; and a .gguf file. */
export const checkpointFormats: readonly CheckpointFormat[] = [
  { name: 'safetensors', reads: (_, isFolder) => isFolder, open: openFolder },
  { name: 'gguf', reads: (_, isFolder) => !isFolder, open: openGguf },
];

export interface OpenCheckpoint {
  /** How files are opened; plain reads by default. */
  openFile?: OpenFile;
  /** Of several that read a path, the last one opens it. Default: `checkpointFormats`. */
  formats?: readonly CheckpointFormat[];
}

/**
 * Opens a folder or a file in the format that reads it.
 * @throws CheckpointNotFoundError, CheckpointCorruptError, CheckpointMissingTensorError, CheckpointDTypeError, GgufUnsupportedError
 */
export async function openCheckpoint(
  path: string,
  { openFile = openFileBytes, formats = checkpointFormats }: OpenCheckpoint = {},
): Promise<Checkpoint> {
  const format = formatOf(path, formats);
  const files: FileBytes[] = [];
  const open: OpenFile = (name) => {
    const file = openFile(name);
    files.push(file);
    refusePointer(file);
    return file;
  };
  const close = (): void => {
    for (const file of files) file.close();
  };
  try {
    const { headerBytes = new Map(), ...headers } = await format.open(path, open);
    let fingerprint: Promise<string> | null = null;
    return {
      path,
      kind: format.name,
      ...headers,
      fingerprint: () => (fingerprint ??= fingerprintOf(files, headerBytes)),
      [Symbol.dispose]: close,
    };
  } catch (error) {
    close();
    throw error;
  }
}

/**
 * The config of a model without its weights: the config.json of a folder, or null for a .gguf file. Not validated.
 * @throws CheckpointNotFoundError, CheckpointCorruptError, GgufUnsupportedError
 */
export async function readModelConfig(path: string): Promise<unknown> {
  if (isFolder(path)) return readJsonObject(join(path, 'config.json'));
  using checkpoint = await openCheckpoint(path);
  return checkpoint.config;
}

function formatOf(path: string, formats: readonly CheckpointFormat[]): CheckpointFormat {
  const folder = isFolder(path);
  const format = formats.findLast((each) => each.reads(path, folder));
  if (format !== undefined) return format;
  throw new CheckpointNotFoundError(
    `No format reads this ${folder ? 'folder' : 'file'}. Formats: ${formats.map(({ name }) => name).join(', ') || 'none'}.`,
    path,
    { fix: 'load the plugin that adds the format.' },
  );
}

function isFolder(path: string): boolean {
  try {
    return statSync(path).isDirectory();
  } catch (cause) {
    const what = isMissing(cause) ? 'No file or folder has this path.' : `The checkpoint cannot be read: ${messageOf(cause)}.`;
    const usual = 'name a folder with config.json and safetensors, or a .gguf file.';
    throw new CheckpointNotFoundError(what, path, { fix: isMissing(cause) ? (fixOfMissing(path) ?? usual) : usual, cause });
  }
}

const isMissing = (error: unknown): boolean => ['ENOENT', 'ENOTDIR'].includes((error as NodeJS.ErrnoException).code ?? '');

function fixOfMissing(path: string): string | undefined {
  if (/^[a-z]+:\/\//i.test(path)) return 'download the model and name its path, or write hf:ORG/REPO for a model of the Hugging Face hub.';
  try {
    const near = nearestNames(basename(path), readdirSync(dirname(path)));
    if (near.length > 0) return `did you mean ${quotedList(near.map((name) => join(dirname(path), name)))}?`;
  } catch {} // the folder is missing too
  return;
}

const pickle = 'a PyTorch checkpoint, which can run code when it is read';
const otherFormat = 'a model in a format that is not read';
const published = 'use the safetensors or a GGUF of the model.';
/** Files that people name in the place of a model, by their ends. `$` stands for the folder. */
const otherFiles: readonly (readonly [end: RegExp, what: string, fix: string])[] = [
  [/\.safetensors$/, 'a file of weights, and its config is another file', 'name the folder: $'],
  [/\.(bin|pt|pth|ckpt)$/, pickle, 'use the safetensors of the model, or convert it.'],
  [/\.(json|jinja|model|txt|md|py)$/, 'one of the files of a checkpoint', 'name the folder: $'],
  [/\.(onnx|tflite|mlmodel|pb|h5|npz|msgpack|mlpackage|engine|xml)$/, otherFormat, published],
];

/** @throws CheckpointNotFoundError */
function refuseOtherFile(path: string): void {
  const [, what, fix] = otherFiles.find(([end]) => end.test(path)) ?? [];
  if (what !== undefined) throw new CheckpointNotFoundError(`This is ${what}.`, path, { fix: fix!.replace('$', dirname(path)) });
}

/** Files and folders that tell what a folder without a checkpoint is. `$` stands for the path of the first that has the name. */
const otherFolders: readonly (readonly [name: RegExp, fix: string])[] = [
  [/^adapter_config\.json$/, 'name the model that this adapter is for; adapters are not applied, so merge it into the model first.'],
  [/^model_index\.json$/, 'name a language model; this is a pipeline that makes images.'],
  [/^(?!mmproj|imatrix).*\.gguf$/i, 'name the file: $'],
  [/^model-\d+-of-\d+\.safetensors$/, 'download model.safetensors.index.json and config.json into the folder.'],
  [/\.(bin|pt|pth|ckpt)$/, "download the safetensors of the model, or convert $: PyTorch's files can run code when they are read."],
  [/\.(h5|msgpack|npz|onnx|xml)$|^onnx$/, published],
  [/\.safetensors$/, 'download config.json and model.safetensors as the model is published for transformers; $ is in another layout.'],
  [/^snapshots$/, 'name a folder in it: $'],
];

/** A folder without the files that make a checkpoint. */
function notACheckpoint(path: string, missing: string): CheckpointNotFoundError {
  let found: string[];
  try {
    found = readdirSync(path).sort();
  } catch (cause) {
    return new CheckpointNotFoundError(`The folder cannot be read: ${messageOf(cause)}.`, path, { cause });
  }
  const lost = found.find((name) => !existsSync(join(path, name)));
  if (lost !== undefined)
    return new CheckpointNotFoundError(`${lost} is a link to a file that does not exist.`, join(path, lost), {
      fix: 'download the model again, or correct the link.',
    });
  const what = `The folder has no ${missing}; it has: ${found.slice(0, 20).join(', ') || 'nothing'}.`;
  for (const [name, fix] of otherFolders) {
    const first = found.find((each) => name.test(each));
    if (first !== undefined) return new CheckpointNotFoundError(what, path, { fix: fix.replace('$', join(path, first)) });
  }
  const inner = found.find((name) => existsSync(join(path, name, 'config.json')) || ggufIn(join(path, name)) !== undefined);
  if (inner === undefined) return new CheckpointNotFoundError(what, path);
  return new CheckpointNotFoundError(what, path, { fix: `name what is in it: ${join(path, inner, ggufIn(join(path, inner)) ?? '')}` });
}

function ggufIn(folder: string): string | undefined {
  try {
    return readdirSync(folder).find((name) => name.endsWith('.gguf'));
  } catch {
    return; // a file, or not readable
  }
}

/** A GGUF whole, or all parts of a split one: any part names the whole. Its metadata is the first part's. */
function openGguf(path: string, open: OpenFile): CheckpointHeaders {
  const headerBytes = new Map<FileBytes, number>();
  const read = (name: string): GgufHeader => {
    const file = open(name);
    const header = readGguf(file);
    headerBytes.set(file, header.headerBytes);
    return header;
  };
  if (!/\.gguf$/i.test(path)) refuseOtherFile(path);
  const named = read(path);
  const parts = splitParts(path, named.metadata).map((part) => {
    if (part === path) return named;
    if (existsSync(part)) return read(part);
    throw new CheckpointNotFoundError(`The part ${basename(part)} of a split GGUF is missing.`, part, {
      fix: `download ${basename(part)} into the same folder.`,
    });
  });
  const tensors = new Map<string, CheckpointTensor>();
  for (const part of parts)
    for (const [key, tensor] of part.tensors) {
      if (tensors.has(key)) throw corrupt(tensor.file, 'Another part of the split GGUF holds the tensor too.', key);
      tensors.set(key, tensor);
    }
  if (tensors.size === 0)
    throw new GgufUnsupportedError('The GGUF holds metadata and no tensors.', path, { fix: 'name the file with the weights.' });
  return { config: null, metadata: parts[0]!.metadata, tensors, headerBytes };
}

/** The files of a split GGUF in order, by the names that llama.cpp gives them; the file itself where it is whole. */
function splitParts(path: string, metadata: ReadonlyMap<string, unknown>): string[] {
  const count = metadata.get('split.count');
  if (typeof count !== 'number' || count <= 1) return [path];
  const [, stem, , of] = /^(.+)-(\d{5})-of-(\d{5})\.gguf$/.exec(path) ?? [];
  if (stem === undefined || Number(of) !== count)
    throw new GgufUnsupportedError(
      `The file is one of the ${count} parts of a split GGUF, and its name does not tell where the others are.`,
      path,
      {
        fix: `give the parts their own names: NAME-00001-of-${String(count).padStart(5, '0')}.gguf and so on.`,
      },
    );
  return Array.from({ length: count }, (_, i) => `${stem}-${String(i + 1).padStart(5, '0')}-of-${of}.gguf`);
}

const indexName = 'model.safetensors.index.json';
const singleName = 'model.safetensors';

function openFolder(path: string, open: OpenFile): CheckpointHeaders {
  if (!existsSync(join(path, 'config.json'))) throw notACheckpoint(path, 'config.json');
  const config = readJsonObject(join(path, 'config.json'));
  const headerBytes = new Map<FileBytes, number>();
  const readShard = (name: string): Map<string, CheckpointTensor> => {
    const file = open(join(path, name));
    const header = readSafetensorsHeader(file);
    headerBytes.set(file, header.headerBytes);
    return header.tensors;
  };
  const tensors = existsSync(join(path, singleName)) ? readShard(singleName) : readShards(path, readShard);
  return { ...unquantised(config, tensors, join(path, 'config.json')), metadata: null, headerBytes };
}

/** The tensors as an unquantised checkpoint has them; a config whose quantisation is unknown keeps its key, and its family refuses that by name. */
function unquantised(config: Record<string, unknown>, tensors: Map<string, CheckpointTensor>, where: string) {
  const { quantization_config: quantised, ...rest } = config;
  const quantisation = isObject(quantised) ? quantisations[String(quantised['quant_method'])] : undefined;
  if (quantisation === undefined || !isObject(quantised)) return { config, tensors };
  return { config: rest, tensors: quantisation(quantised, tensors, where) };
}

function readShards(path: string, readShard: (name: string) => Map<string, CheckpointTensor>): Map<string, CheckpointTensor> {
  const indexPath = join(path, indexName);
  if (!existsSync(indexPath)) throw notACheckpoint(path, `${singleName} and no ${indexName}`);
  const weightMap = readWeightMap(indexPath);
  const shards = new Map<string, Map<string, CheckpointTensor>>();
  const tensors = new Map<string, CheckpointTensor>();
  for (const [key, name] of weightMap) {
    const where = at(join(path, name), key);
    if (!existsSync(join(path, name)))
      throw new CheckpointNotFoundError(`The shard ${name} is missing.`, where, { fix: `download ${name} into the same folder.` });
    const shard = shards.get(name) ?? readShard(name);
    shards.set(name, shard);
    const tensor = shard.get(key);
    if (tensor === undefined) {
      const what = `${indexName} says that ${name} holds the tensor, and it does not.`;
      throw new CheckpointMissingTensorError(what, where, { fix: 'download the shard and the index again.' });
    }
    tensors.set(key, tensor);
  }
  // A tensor that the index omits is still in its shard; the load decides whether the model uses it.
  for (const shard of shards.values()) for (const [key, tensor] of shard) if (!tensors.has(key)) tensors.set(key, tensor);
  return tensors;
}

/** Tensor key to shard name. A name that leaves the folder is refused. */
function readWeightMap(indexPath: string): [string, string][] {
  const index = readJsonObject(indexPath);
  const weightMap = Object.hasOwn(index, 'weight_map') ? index['weight_map'] : undefined;
  if (!isObject(weightMap)) throw corrupt({ path: indexPath }, 'The index has no object "weight_map".');
  return Object.entries(weightMap).map(([key, name]) => {
    if (typeof name !== 'string' || !name.endsWith('.safetensors') || name !== basename(name) || /[\\:\0]/.test(name)) {
      throw corrupt({ path: indexPath }, `The shard name ${JSON.stringify(name)} is not that of a .safetensors file in this folder.`, key);
    }
    return [key, name];
  });
}

/** The largest published index, of a model of a trillion weights, has 15 MB. */
const largestJson = 32_000_000;

function readJsonObject(path: string): Record<string, unknown> {
  const file = openFileBytes(path);
  try {
    refusePointer(file);
    if (file.byteLength > largestJson) throw corrupt(file, `The file has ${file.byteLength} bytes; at most ${largestJson} are allowed.`);
    return parseJsonObject(file.read(0, file.byteLength), 'The file', path);
  } finally {
    file.close();
  }
}

const hashedWhole = 512 * 2 ** 20;
const samples = 64;
const sampleBytes = 2 ** 20;

/**
 * SHA-256 of the files' names, sizes and bytes. Above 512 MiB in all, of each file only the header, the time of its last change (in nanoseconds) and
 * 64 pieces of 1 MiB, evenly spaced with the last at the end. A rewritten file has another time, and another model differs in nearly every piece. A
 * change to unsampled bytes that also restores the time is not seen.
 */
async function fingerprintOf(files: readonly FileBytes[], headerBytes: ReadonlyMap<FileBytes, number>): Promise<string> {
  const hash = createHash('sha256');
  const whole = files.reduce((sum, file) => sum + file.byteLength, 0) <= hashedWhole;
  for (const file of files) {
    hash.update(
      JSON.stringify([basename(file.path), file.byteLength, whole ? 'whole' : String(statSync(file.path, { bigint: true }).mtimeNs)]),
    );
    for (const [offset, length] of whole ? [[0, file.byteLength] as const] : sampledRanges(file.byteLength, headerBytes.get(file) ?? 0)) {
      await hashRange(hash, file, offset, length);
    }
  }
  return hash.digest('hex');
}

function* sampledRanges(size: number, header: number): Generator<readonly [number, number]> {
  yield [0, header];
  const room = Math.max(size - header - sampleBytes, 0);
  for (let i = 0; i < samples; i++) {
    const offset = header + Math.floor((room * i) / (samples - 1));
    yield [offset, Math.min(sampleBytes, size - offset)];
  }
}

const hashPiece = 8 * 2 ** 20;

async function hashRange(hash: { update(bytes: Uint8Array): unknown }, file: FileBytes, offset: number, length: number): Promise<void> {
  for (let done = 0; done < length; done += hashPiece) {
    hash.update(file.read(offset + done, Math.min(hashPiece, length - done)));
    await setImmediate();
  }
}
