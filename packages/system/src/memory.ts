import { closeSync, fstatSync, openSync, readSync } from 'node:fs';
import { messageOf, NativeResource } from '@graft/common';
import koffi from 'koffi';
import { type ElementType, elementTypes, type TypedArrays } from './element-type.ts';
import { NativeMemoryError } from './errors.ts';
import { system } from './library.ts';

/** A longer view aborts the process. */
const MAX_VIEW_BYTES = 2 ** 32;
const VIEW_STEP_BYTES = 2 ** 31;
/** Bytes that one read takes where a file cannot be mapped. */
const READ_BYTES = 2 ** 30;

/**
 * Returns memory that native code has freed to the system. glibc otherwise keeps it for later allocations: hundreds of megabytes after a session.
 * Blocks for some tens of milliseconds.
 */
export function returnFreeMemory(): void {
  system.memory.trim();
}

const registry = new FinalizationRegistry<() => void>((collected) => collected());

/** Memory outside JavaScript's heap, which never moves. `dispose` frees it once nothing native uses it; garbage collection does not. */
export abstract class MemoryRegion extends NativeResource {
  readonly byteLength: number;
  protected abstract readonly isFile: boolean;
  private readonly address: bigint;
  private readonly mappedBytes: number;
  private readonly views = new Map<string, ArrayBuffer>();
  /** Views that are not collected yet. */
  private reachable = { count: 0, whenNone: (): void => {} };

  protected constructor(address: bigint, byteLength: number, mappedBytes: number) {
    super();
    this.address = address;
    this.byteLength = byteLength;
    this.mappedBytes = mappedBytes;
  }

  /** The address of the first byte. */
  get pointer(): bigint {
    this.assertUsable();
    return this.address;
  }

  /** The bytes from `byteOffset` on, without a copy. See `elements`. */
  bytes(byteOffset = 0, byteLength = this.byteLength - byteOffset): Uint8Array<ArrayBuffer> {
    return this.elements('uint8', byteOffset, byteLength);
  }

  /**
   * The elements from `byteOffset` on, without a copy. The array reads as zeros after the region is freed.
   * @throws NativeMemoryError when the range is out of bounds, misaligned for `type` or longer than 4 GiB; DisposedError
   */
  elements<T extends ElementType>(type: T, byteOffset = 0, count?: number): TypedArrays[T] {
    this.assertUsable();
    const { bytes, array } = elementTypes[type];
    const length = count ?? Math.floor((this.byteLength - byteOffset) / bytes);
    this.checkRange(byteOffset, length * bytes);
    if (byteOffset % bytes !== 0) {
      throw new NativeMemoryError({
        what: `Byte ${byteOffset} is not a multiple of ${bytes}, the size of ${type}.`,
        where: this.describe(),
        fix: 'read it through bytes(), or lay the tensor out at a multiple.',
      });
    }
    const { buffer, start } = this.viewOf(byteOffset, length * bytes);
    return new array(buffer, byteOffset - start, length);
  }

  /**
   * Gives the whole pages inside a range back to the system. A file's bytes are then read again at the next use; other memory becomes zero.
   * Meant for weights that a session has packed into its own form.
   */
  discard(byteOffset = 0, byteLength = this.byteLength - byteOffset): void {
    this.assertUsable();
    this.checkRange(byteOffset, byteLength);
    const page = system.memory.pageBytes();
    const first = Math.ceil(byteOffset / page) * page;
    const end = byteOffset + byteLength === this.byteLength ? this.mappedBytes : byteOffset + byteLength;
    const length = Math.floor((end - first) / page) * page;
    if (length > 0) system.memory.discard(this.address + BigInt(first), length, this.isFile);
  }

  private checkRange(byteOffset: number, byteLength: number): void {
    const whole = Number.isSafeInteger(byteOffset) && Number.isSafeInteger(byteLength);
    if (whole && byteOffset >= 0 && byteLength >= 0 && byteOffset + byteLength <= this.byteLength) return;
    const what = `${byteLength} bytes at offset ${byteOffset} exceed the memory of ${this.byteLength} bytes.`;
    throw new NativeMemoryError({ what, where: this.describe() });
  }

  /**
   * An ArrayBuffer cannot be taken back, and touching unmapped memory ends the process. So the memory goes now, but its addresses stay mapped to empty pages
   * until the last view is collected.
   */
  protected override free(): void {
    const { address, mappedBytes, reachable } = this;
    const unmap = (): void => system.memory.free(address, mappedBytes);
    this.views.clear();
    if (reachable.count === 0) {
      unmap();
      return;
    }
    system.memory.empty(address, mappedBytes);
    reachable.whenNone = unmap;
  }

  /** Views of long memory start every 2 GiB and are 4 GiB long, so that each range of up to 2 GiB lies in a shared one. */
  private viewOf(byteOffset: number, byteLength: number): { buffer: ArrayBuffer; start: number } {
    if (byteLength > MAX_VIEW_BYTES) {
      throw new NativeMemoryError({
        what: `A view of ${byteLength} bytes is too long; the longest is ${MAX_VIEW_BYTES}.`,
        where: this.describe(),
        fix: 'read it in parts.',
      });
    }
    const step = Math.floor(byteOffset / VIEW_STEP_BYTES) * VIEW_STEP_BYTES;
    const start = byteOffset + byteLength <= step + MAX_VIEW_BYTES ? step : byteOffset;
    const length = Math.min(MAX_VIEW_BYTES, this.byteLength - start);
    const key = `${start}:${length}`;
    const buffer = this.views.get(key) ?? this.createView(start, length);
    this.views.set(key, buffer);
    return { buffer, start };
  }

  private createView(start: number, byteLength: number): ArrayBuffer {
    if (byteLength === 0) return new ArrayBuffer(0);
    const { reachable } = this;
    const view: ArrayBuffer = koffi.view(this.address + BigInt(start), byteLength);
    reachable.count += 1;
    registry.register(view, () => {
      reachable.count -= 1;
      if (reachable.count === 0) reachable.whenNone();
    });
    return view;
  }
}

/** Zeroed, page-aligned memory. */
export class PinnedBuffer extends MemoryRegion {
  protected readonly isFile = false;

  /** @throws NativeMemoryError when the system cannot provide this much memory. */
  static allocate(byteLength: number): PinnedBuffer {
    const mappedBytes = wholePages(byteLength);
    return new PinnedBuffer(allocate(mappedBytes, `${byteLength} bytes of memory`), byteLength, mappedBytes);
  }

  /** Memory with a copy of `bytes`. */
  static from(bytes: Uint8Array): PinnedBuffer {
    const buffer = PinnedBuffer.allocate(bytes.byteLength);
    buffer.bytes().set(bytes);
    return buffer;
  }

  protected override describe(): string {
    return `A pinned buffer of ${this.byteLength} bytes`;
  }
}

/**
 * A file as memory. The system reads a page when it is first used, and may drop it again. Writing through a view changes a private copy, never the file.
 * Do not shorten the file while it is mapped: the system then ends the process.
 */
export class MappedFile extends MemoryRegion {
  protected readonly isFile = true;
  private path = '';

  /**
   * @param map maps the file; where it gives null, the bytes are read
   * @throws NativeMemoryError when the file cannot be opened or read, or is empty.
   */
  static open(path: string, map: (fd: number, byteLength: number) => bigint | null = system.memory.map): MappedFile {
    const fd = openForReading(path);
    try {
      const { size } = fstatSync(fd);
      if (size === 0) throw new NativeMemoryError({ what: 'The file is empty.', where: path });
      const mappedBytes = wholePages(size);
      const mapped = map(fd, size);
      const file = new MappedFile(mapped ?? allocate(mappedBytes, path), size, mappedBytes);
      file.path = path;
      if (mapped === null) file.read(fd);
      return file;
    } finally {
      closeSync(fd);
    }
  }

  private read(fd: number): void {
    for (let at = 0; at < this.byteLength; ) {
      const room = this.bytes(at, Math.min(READ_BYTES, this.byteLength - at));
      const count = readSync(fd, room, 0, room.length, at);
      if (count === 0) throw new NativeMemoryError({ what: `The file ended at byte ${at} of ${this.byteLength}.`, where: this.path });
      at += count;
    }
  }

  protected override describe(): string {
    return `The mapped file ${this.path}`;
  }
}

function openForReading(path: string): number {
  try {
    return openSync(path, 'r');
  } catch (cause) {
    throw new NativeMemoryError({ what: `The file cannot be opened: ${messageOf(cause)}`, where: path, cause });
  }
}

function wholePages(byteLength: number): number {
  if (!Number.isSafeInteger(byteLength) || byteLength < 0)
    throw new NativeMemoryError({ what: `${byteLength} is not a valid number of bytes.` });
  const page = system.memory.pageBytes();
  return Math.max(1, Math.ceil(byteLength / page)) * page;
}

function allocate(byteLength: number, where: string): bigint {
  const address = system.memory.allocate(byteLength);
  if (address === null) throw new NativeMemoryError({ what: `The system has no room (error ${system.memory.lastError()}).`, where });
  return address;
}
