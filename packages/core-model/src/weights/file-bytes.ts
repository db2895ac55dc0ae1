import { type BigIntStats, closeSync, existsSync, fstatSync, openSync, readSync, statSync } from 'node:fs';
import { messageOf } from '@graft/common';
import { CheckpointCorruptError, CheckpointNotFoundError } from './errors.ts';

/** The bytes of an open file. A platform may bind a reader that maps the file. */
export interface FileBytes {
  readonly path: string;
  readonly byteLength: number;
  /** Identifies the file at this path and its present state; left out where the bytes are not those of the file. */
  readonly version?: string;
  /** `length` bytes from `offset`. Valid until `close`. @throws CheckpointCorruptError when the file is shorter. */
  read(offset: number, length: number): Uint8Array;
  /** May be called twice. */
  close(): void;
}

export type OpenFile = (path: string) => FileBytes;

/** Opens a file for positioned reads. @throws CheckpointNotFoundError for a missing file, or one that is not regular. */
export function openFileBytes(path: string): FileBytes {
  let descriptor: number | null = open(path);
  const stat = fstatSync(descriptor);
  return {
    path,
    byteLength: stat.size,
    version: versionOf(fstatSync(descriptor, { bigint: true })),
    read(offset, length) {
      if (descriptor === null)
        throw new CheckpointNotFoundError('The file was closed before it was read.', path, {
          fix: 'keep the checkpoint open while it loads.',
        });
      if (offset < 0 || length < 0 || offset + length > stat.size) throw endsEarly(path, offset, length, stat.size);
      return readFully(descriptor, path, offset, length);
    },
    close() {
      if (descriptor !== null) closeSync(descriptor);
      descriptor = null;
    },
  };
}

const versionOf = ({ dev, ino, size, mtimeNs }: BigIntStats): string => [dev, ino, size, mtimeNs].join('-');

/** @throws CheckpointCorruptError when the file at the path is another one than `version`, or has changed */
export function expectVersion(path: string, version: string): void {
  if (existsSync(path) && versionOf(statSync(path, { bigint: true })) === version) return;
  throw new CheckpointCorruptError('The file was replaced or changed while the model was loaded from it.', path, {
    fix: 'load the model again.',
  });
}

/** Refuses the text that git leaves in the place of a large file, and a page that a server sent instead of one. @throws CheckpointCorruptError */
export function refusePointer({ path, byteLength, read }: FileBytes): void {
  const start = Buffer.from(read(0, Math.min(byteLength, 64))).toString('latin1');
  if (start.startsWith('version https://git-lfs'))
    throw new CheckpointCorruptError('The file is a Git LFS pointer, not the file itself.', path, {
      fix: 'run `git lfs pull` in its folder.',
    });
  if (/^\s*<(!doctype|html)/i.test(start))
    throw new CheckpointCorruptError('The file is an HTML page.', path, { fix: 'download it again.' });
}

/** Opens a file until `use` returns or throws. */
export function withFile<R>(path: string, flags: string, use: (descriptor: number) => R): R {
  const descriptor = openSync(path, flags);
  try {
    return use(descriptor);
  } finally {
    closeSync(descriptor);
  }
}

function open(path: string): number {
  try {
    if (statSync(path).isFile()) return openSync(path, 'r'); // asked first: opening a pipe would wait for its other end
  } catch (cause) {
    throw new CheckpointNotFoundError(`The file cannot be opened: ${messageOf(cause)}.`, path, { cause });
  }
  throw new CheckpointNotFoundError('This is not a regular file.', path);
}

const largestRead = 1 << 30;

/** Reads `length` bytes, however many calls it takes. */
export function readFully(descriptor: number, path: string, offset: number, length: number): Uint8Array {
  const bytes = new Uint8Array(length);
  for (let done = 0; done < length; ) {
    const count = readSync(descriptor, bytes, done, Math.min(length - done, largestRead), offset + done);
    if (count === 0) throw endsEarly(path, offset, length, offset + done);
    done += count;
  }
  return bytes;
}

function endsEarly(path: string, offset: number, length: number, size: number): CheckpointCorruptError {
  return new CheckpointCorruptError(`Bytes ${offset} to ${offset + length} are needed, and the file ends at ${size}.`, path);
}
