import { CheckpointCorruptError } from './errors.ts';
import type { FileBytes } from './file-bytes.ts';

const windowBytes = 1 << 20;

/** Reads a GGUF's little-endian fields one after another; nothing is allocated for a length that the file cannot hold. */
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

  uint8(): number {
    return this.take(1, (view, at) => view.getUint8(at));
  }

  int8(): number {
    return this.take(1, (view, at) => view.getInt8(at));
  }

  uint16(): number {
    return this.take(2, (view, at) => view.getUint16(at, true));
  }

  int16(): number {
    return this.take(2, (view, at) => view.getInt16(at, true));
  }

  uint32(): number {
    return this.take(4, (view, at) => view.getUint32(at, true));
  }

  int32(): number {
    return this.take(4, (view, at) => view.getInt32(at, true));
  }

  float32(): number {
    return this.take(4, (view, at) => view.getFloat32(at, true));
  }

  float64(): number {
    return this.take(8, (view, at) => view.getFloat64(at, true));
  }

  uint64(): number | bigint {
    return narrow(this.take(8, (view, at) => view.getBigUint64(at, true)));
  }

  int64(): number | bigint {
    return narrow(this.take(8, (view, at) => view.getBigInt64(at, true)));
  }

  /** A length or count of things of at least `leastBytes` each. @throws CheckpointCorruptError when the rest of the file cannot hold them. */
  count(what: string, leastBytes: number): number {
    const count = this.uint64();
    if (typeof count === 'bigint' || count * leastBytes > this.remaining) {
      throw this.corrupt(`${what} is ${count}, and the ${this.remaining} bytes that are left cannot hold that.`);
    }
    return count;
  }

  /** @param strict refuse bytes that are not UTF-8; a vocabulary may hold such. */
  string(what: string, strict: boolean): string {
    const length = this.count(`The length of ${what}`, 1);
    const bytes = this.bytes(length);
    try {
      return (strict ? strictUtf8 : looseUtf8).decode(bytes);
    } catch (cause) {
      throw new CheckpointCorruptError({ what: `${what} is not UTF-8 (before byte ${this.offset}).`, where: this.file.path, cause });
    }
  }

  corrupt(what: string): CheckpointCorruptError {
    return new CheckpointCorruptError({ what: `${what} (at byte ${this.offset})`, where: this.file.path });
  }

  private bytes(length: number): Uint8Array {
    const view = this.viewOf(length);
    const bytes = new Uint8Array(view.buffer, view.byteOffset + this.offset - this.windowStart, length);
    this.offset += length;
    return bytes;
  }

  private take<T>(size: number, get: (view: DataView, at: number) => T): T {
    const value = get(this.viewOf(size), this.offset - this.windowStart);
    this.offset += size;
    return value;
  }

  /** The window, with at least `length` bytes from the current offset in it. */
  private viewOf(length: number): DataView {
    if (length > this.remaining) throw this.corrupt(`The file ends at ${this.file.byteLength}, in the middle of its header.`);
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

function narrow(value: bigint): number | bigint {
  return value >= BigInt(Number.MIN_SAFE_INTEGER) && value <= BigInt(Number.MAX_SAFE_INTEGER) ? Number(value) : value;
}
