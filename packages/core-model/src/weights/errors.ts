import { graftError } from '@graft/common';

/** The place of a problem in a checkpoint: `file, tensor "key"`. */
export function at(path: string, key?: string): string {
  return key === undefined ? path : `${path}, tensor ${JSON.stringify(key)}`;
}

interface More {
  /** Default: the fix of the class. */
  fix?: string;
  cause?: unknown;
}

/** @param usualFix the default fix. `where` is made by `at`. */
const checkpointError = (code: `GRAFT_${string}`, usualFix: string) =>
  graftError(code, (what: string, where: string, { fix = usualFix, cause }: More = {}) => ({ what, where, fix, cause }));

const otherConfig = 'use the checkpoint that belongs to this config, or correct the config.';

/** The file is truncated, or its header contradicts itself or the file's size. */
export class CheckpointCorruptError extends checkpointError(
  'GRAFT_CHECKPOINT_CORRUPT',
  'download the file again; if the error stays, the program that wrote the file is at fault.',
) {}

export const corrupt = (file: { readonly path: string }, what: string, key?: string): CheckpointCorruptError =>
  new CheckpointCorruptError(what, at(file.path, key));

/** A file of the checkpoint is missing or cannot be read. */
export class CheckpointNotFoundError extends checkpointError('GRAFT_CHECKPOINT_NOT_FOUND', 'check the path; download the missing file.') {}

/** The checkpoint lacks a tensor of a parameter, or a shard lacks a tensor that the index lists. */
export class CheckpointMissingTensorError extends checkpointError('GRAFT_CHECKPOINT_MISSING_TENSOR', otherConfig) {}

/** The checkpoint's tensors do not fit the parameter's shape. */
export class CheckpointShapeMismatchError extends checkpointError('GRAFT_CHECKPOINT_SHAPE_MISMATCH', otherConfig) {}

/** The checkpoint holds tensors that no parameter uses. */
export class CheckpointUnexpectedTensorError extends checkpointError(
  'GRAFT_CHECKPOINT_UNEXPECTED_TENSOR',
  'use the checkpoint that belongs to this config: a model that ignores weights answers wrongly.',
) {}

/** A tensor's element type is unknown, or cannot be converted to the wanted format. */
export class CheckpointDTypeError extends checkpointError(
  'GRAFT_CHECKPOINT_DTYPE',
  'use a checkpoint in float32, float16 or bfloat16, or a GGUF; docs/models.md lists the types.',
) {}

/** The GGUF is well formed, but Graft cannot run what it holds. */
export class GgufUnsupportedError extends checkpointError(
  'GRAFT_GGUF_UNSUPPORTED',
  'use a GGUF of an architecture and of types that docs/models.md lists.',
) {}

/** The cache of converted weights on disk cannot be written, or was removed while in use. */
export class WeightCacheError extends checkpointError('GRAFT_WEIGHT_CACHE', 'free space, or name a cache directory that can be written.') {}

/** For errors: the tensor that is converted. */
export interface Origin {
  /** `at(path, key)`. */
  where: string;
  /** The element of the tensor at which the bytes begin. */
  firstElement: number;
}
