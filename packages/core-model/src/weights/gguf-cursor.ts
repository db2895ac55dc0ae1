import { CheckpointCorruptError, corrupt } from './errors.ts';
import type { FileBytes } from './file-bytes.ts';

const windowBytes = 1 << 20;
/** Far more than any chat template or embedded tokenizer. */
const longestString = 1 << 25;

type Getter = `get${'Uint8' | 'Int8' | 'Uint16' | 'Int16' | 'Uint32' | 'Int32' | 'Float32' | 'Float64' | 'BigUint64' | 'BigInt64'}`;

/** Reads a GGUF's little-endian fields one after another. A length that the file cannot hold is refused before memory is allocated. */
export class GgufCursor {
  offset = 0;
  private readonly file: FileBytes;
  private window: DataView = new DataView(new ArrayBuffer(0));
  private windowStart = 0;

  constructor(file: FileBytes) {
    this.file = file;
  }

  get remaining(): number {
    return this.file.byteLength - this.offset;
  }

  /** The next value, of `size` bytes. A 64-bit integer is a bigint only beyond 2^53. */
  take(size: number, get: Getter): number | bigint {
    const value = this.viewOf(size)[get](this.offset - this.windowStart, true);
    this.offset += size;
    const isSafe = value >= Number.MIN_SAFE_INTEGER && value <= Number.MAX_SAFE_INTEGER;
    return typeof value === 'bigint' && isSafe ? Number(value) : value;
  }

  uint32(): number {
    return Number(this.take(4, 'getUint32'));
  }

  uint64(): number | bigint {
    return this.take(8, 'getBigUint64');
  }

  /** The next count of items of at least `leastBytes` each. @throws CheckpointCorruptError when the rest of the file cannot hold them, and above `most`. */
  count(what: string, leastBytes: number, most = Number.MAX_SAFE_INTEGER): number {
    const count = this.uint64();
    if (typeof count === 'bigint' || count * leastBytes > this.remaining) {
      throw this.corrupt(`${what} is ${count}, too many for the remaining ${this.remaining} bytes.`);
    }
    if (count > most) throw this.corrupt(`${what} is ${count}; at most ${most} are allowed.`);
    return count;
  }

  /** @param strict refuses bytes that are not UTF-8, which a vocabulary may have. */
  string(what: string, strict: boolean): string {
    const length = this.count(`The length of ${what}`, 1, longestString);
    const view = this.viewOf(length);
    const bytes = new Uint8Array(view.buffer, view.byteOffset + this.offset - this.windowStart, length);
    this.offset += length;
    try {
      return (strict ? strictUtf8 : looseUtf8).decode(bytes);
    } catch (cause) {
      throw new CheckpointCorruptError(`${what} is not UTF-8 (before byte ${this.offset}).`, this.file.path, { cause });
    }
  }

  corrupt(what: string): CheckpointCorruptError {
    return corrupt(this.file, `${what} (at byte ${this.offset})`);
  }

  /** A window of the file that holds at least `length` bytes from the current offset. */
  private viewOf(length: number): DataView {
    if (length > this.remaining) throw this.corrupt(`The file ends at byte ${this.file.byteLength}, within its header.`);
    const end = this.windowStart + this.window.byteLength;
    if (this.offset + length > end) {
      const bytes = this.file.read(this.offset, Math.min(Math.max(length, windowBytes), this.remaining));
      this.window = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
      this.windowStart = this.offset;
    }
    return this.window;
  }
}

const strictUtf8 = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true });
const looseUtf8 = new TextDecoder('utf-8', { ignoreBOM: true });
