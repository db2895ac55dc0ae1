import { GraftError } from '@graft/common';

interface CheckpointProblem {
  what: string;
  /** The file, with the key after it where there is one: `at(path, key)`. */
  where: string;
  fix?: string;
  cause?: unknown;
}

/** `file, tensor "key"`: where in a checkpoint something is wrong. */
export function at(path: string, key?: string): string {
  return key === undefined ? path : `${path}, tensor ${JSON.stringify(key)}`;
}

const downloadAgain = 'download the file again; if it stays so, the program that wrote it is at fault.';

/** The file is truncated, or its header contradicts itself or the file's size. */
export class CheckpointCorruptError extends GraftError {
  constructor({ fix = downloadAgain, ...problem }: CheckpointProblem) {
    super({ code: 'GRAFT_CHECKPOINT_CORRUPT', ...problem, fix });
  }
}

/** A file that the checkpoint should have is not there, or cannot be read. */
export class CheckpointNotFoundError extends GraftError {
  constructor({ fix = 'check the path; download the missing file.', ...problem }: CheckpointProblem) {
    super({ code: 'GRAFT_CHECKPOINT_NOT_FOUND', ...problem, fix });
  }
}

/** The model has a parameter for which the checkpoint has no tensor, or an index lists a tensor that its shard lacks. */
export class CheckpointMissingTensorError extends GraftError {
  constructor({ fix = 'use the checkpoint that belongs to this config, or correct the config.', ...problem }: CheckpointProblem) {
    super({ code: 'GRAFT_CHECKPOINT_MISSING_TENSOR', ...problem, fix });
  }
}

/** The checkpoint's tensors do not fit the parameter's shape. */
export class CheckpointShapeMismatchError extends GraftError {
  constructor({ fix = 'use the checkpoint that belongs to this config, or correct the config.', ...problem }: CheckpointProblem) {
    super({ code: 'GRAFT_CHECKPOINT_SHAPE_MISMATCH', ...problem, fix });
  }
}

/** The checkpoint holds tensors that no parameter uses. */
export class CheckpointUnexpectedTensorError extends GraftError {
  constructor({
    fix = 'use the checkpoint that belongs to this config: a model that ignores weights answers wrongly.',
    ...problem
  }: CheckpointProblem) {
    super({ code: 'GRAFT_CHECKPOINT_UNEXPECTED_TENSOR', ...problem, fix });
  }
}

/** A tensor's element type is unknown, or cannot be converted into the wanted form. */
export class CheckpointDTypeError extends GraftError {
  constructor({
    fix = 'use a checkpoint in float32, float16 or bfloat16, or a GGUF in F32, F16, BF16, Q8_0, Q4_0 or Q4_1.',
    ...problem
  }: CheckpointProblem) {
    super({ code: 'GRAFT_CHECKPOINT_DTYPE', ...problem, fix });
  }
}

/** The GGUF is well formed, and holds something that Graft cannot run. */
export class GgufUnsupportedError extends GraftError {
  constructor({ fix = 'use a GGUF of architecture "llama" in F32, F16, BF16, Q8_0, Q4_0 or Q4_1.', ...problem }: CheckpointProblem) {
    super({ code: 'GRAFT_GGUF_UNSUPPORTED', ...problem, fix });
  }
}

/** The on-disk cache of converted weights cannot be written or was removed while in use. */
export class WeightCacheError extends GraftError {
  constructor({ fix = 'free space, or name a cache directory that can be written.', ...problem }: CheckpointProblem) {
    super({ code: 'GRAFT_WEIGHT_CACHE', ...problem, fix });
  }
}

/** Names what is being converted, for errors. */
export interface Origin {
  path: string;
  key: string;
  /** Element of the tensor that the bytes begin with. */
  firstElement: number;
}
