import { closeSync, fstatSync, openSync } from 'node:fs';
import { messageOf } from '@graft/common';
import koffi from 'koffi';
import { type ElementType, elementTypeFacts, type TypedArrays } from './element-type.ts';
import { OrtMemoryError } from './errors.ts';
import { type NativeFunction, openLibrary } from './library.ts';
import { NativeResource } from './resource.ts';
import { TrackedViews } from './tracked-views.ts';

const PROT_READ = 1;
const PROT_WRITE = 2;
const MAP_PRIVATE = 2;
const MAP_FIXED = 0x10;
const MAP_ANONYMOUS = 0x20;
const MAP_NORESERVE = 0x4000;
const MADV_DONTNEED = 4;
const MAP_FAILED = 2n ** 64n - 1n;
const PAGE_BYTES = 4096;
/** The longest view; a longer one aborts the process. */
const MAX_VIEW_BYTES = 2 ** 32;
/** Where views of longer memory begin. Half their length, so that every range up to this size lies in one of them. */
const VIEW_STEP_BYTES = 2 ** 31;

interface MemoryCalls {
  mmap: NativeFunction;
  munmap: NativeFunction;
  madvise: NativeFunction;
}

let memoryCalls: MemoryCalls | null = null;

function libc(): MemoryCalls {
  if (memoryCalls === null) {
    const library = openLibrary(null);
    memoryCalls = {
      mmap: library.func('mmap', 'void *', ['void *', 'size_t', 'int', 'int', 'int', 'int64_t']),
      munmap: library.func('munmap', 'int', ['void *', 'size_t']),
      madvise: library.func('madvise', 'int', ['void *', 'size_t', 'int']),
    };
  }
  return memoryCalls;
}

/** A range of memory that stays where it is: a whole region or a slice of one. */
export interface Memory {
  /** The address of the first byte. */
  readonly pointer: bigint;
  readonly byteLength: number;
  /** Owns the memory and decides how long it lives. */
  readonly region: MemoryRegion;
  /** The distance from the region's first byte. */
  readonly byteOffset: number;
  /**
   * The bytes from `byteOffset`, without a copy; at most 4 GiB. Once the region is freed the array reads as zeros.
   * @throws OrtMemoryError when the range lies outside; DisposedError
   */
  bytes(byteOffset?: number, byteLength?: number): Uint8Array<ArrayBuffer>;
  /** The elements from `byteOffset`, without a copy. The address must be a multiple of the element's size. */
  elements<T extends ElementType>(type: T, byteOffset?: number, count?: number): TypedArrays[T];
  /** A part of it; shares the region and must not be disposed by itself. */
  slice(byteOffset: number, byteLength?: number): Memory;
}

/** Memory outside JavaScript's heap, given back by `dispose` (once nothing native uses it any more), never by garbage collection. */
export abstract class MemoryRegion extends NativeResource implements Memory {
  readonly byteLength: number;
  private readonly address: bigint;
  private readonly mappedBytes: number;
  private readonly tracked = new TrackedViews();
  private readonly views = new Map<string, ArrayBuffer>();

  protected constructor(address: bigint, byteLength: number, mappedBytes: number) {
    super();
    this.address = address;
    this.byteLength = byteLength;
    this.mappedBytes = mappedBytes;
  }

  get pointer(): bigint {
    this.assertUsable();
    return this.address;
  }

  get region(): this {
    return this;
  }

  get byteOffset(): 0 {
    return 0;
  }

  bytes(byteOffset = 0, byteLength = this.byteLength - byteOffset): Uint8Array<ArrayBuffer> {
    return this.elements('uint8', byteOffset, byteLength);
  }

  elements<T extends ElementType>(type: T, byteOffset = 0, count?: number): TypedArrays[T] {
    this.assertUsable();
    const { bytes, array } = elementTypeFacts(type);
    const length = count ?? Math.floor((this.byteLength - byteOffset) / bytes);
    this.checkRange(byteOffset, length * bytes);
    if (byteOffset % bytes !== 0) {
      throw new OrtMemoryError({
        what: `Byte ${byteOffset} is not a multiple of ${bytes}, the size of ${type}.`,
        where: this.describe(),
        fix: 'read it through bytes(), or lay the tensor out at a multiple.',
      });
    }
    const { buffer, start } = this.viewOf(byteOffset, length * bytes);
    return new array(buffer, byteOffset - start, length);
  }

  slice(byteOffset: number, byteLength = this.byteLength - byteOffset): Memory {
    this.assertUsable();
    this.checkRange(byteOffset, byteLength);
    return new MemorySlice(this, byteOffset, byteLength);
  }

  /**
   * Gives the pages of a range back to the system (the whole pages inside it). A file's bytes are read again when they are next
   * used; anonymous memory is zero afterwards. Meant for weights that a session has packed into its own form.
   */
  discard(byteOffset = 0, byteLength = this.byteLength - byteOffset): void {
    this.assertUsable();
    this.checkRange(byteOffset, byteLength);
    const first = Math.ceil(byteOffset / PAGE_BYTES) * PAGE_BYTES;
    const end = byteOffset + byteLength === this.byteLength ? this.mappedBytes : byteOffset + byteLength;
    const length = Math.floor((end - first) / PAGE_BYTES) * PAGE_BYTES;
    if (length > 0 && libc().madvise(this.address + BigInt(first), length, MADV_DONTNEED) !== 0) {
      throw new OrtMemoryError({ what: `madvise failed with errno ${koffi.errno()}.`, where: this.describe() });
    }
  }

  /** @internal */
  checkRange(byteOffset: number, byteLength: number): void {
    const whole = Number.isSafeInteger(byteOffset) && Number.isSafeInteger(byteLength);
    if (whole && byteOffset >= 0 && byteLength >= 0 && byteOffset + byteLength <= this.byteLength) return;
    throw new OrtMemoryError({
      what: `${byteLength} bytes at offset ${byteOffset} do not lie inside ${this.byteLength} bytes.`,
      where: this.describe(),
    });
  }

  protected override free(): void {
    const { address, mappedBytes, tracked } = this;
    this.views.clear();
    // The memory goes now; the addresses only when no view is left. Empty pages stand there meanwhile.
    if (tracked.any)
      libc().mmap(address, mappedBytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED, -1, 0);
    tracked.whenUnused(() => libc().munmap(address, mappedBytes));
  }

  private viewOf(byteOffset: number, byteLength: number): { buffer: ArrayBuffer; start: number } {
    if (byteLength > MAX_VIEW_BYTES) {
      throw new OrtMemoryError({
        what: `A view of ${byteLength} bytes was asked for; the longest is ${MAX_VIEW_BYTES}.`,
        where: this.describe(),
        fix: 'read it in parts.',
      });
    }
    const step = Math.floor(byteOffset / VIEW_STEP_BYTES) * VIEW_STEP_BYTES;
    const whole = this.byteLength <= MAX_VIEW_BYTES;
    const inStep = byteOffset + byteLength <= step + MAX_VIEW_BYTES;
    const start = whole ? 0 : inStep ? step : byteOffset - (byteOffset % PAGE_BYTES);
    const length = whole ? this.byteLength : Math.min(MAX_VIEW_BYTES, this.byteLength - start);
    if (start + length < byteOffset + byteLength) return { buffer: this.cachedView(byteOffset, byteLength), start: byteOffset };
    return { buffer: this.cachedView(start, length), start };
  }

  private cachedView(start: number, byteLength: number): ArrayBuffer {
    const key = `${start}:${byteLength}`;
    let view = this.views.get(key);
    if (view === undefined) {
      view = this.tracked.create(this.address + BigInt(start), byteLength);
      this.views.set(key, view);
    }
    return view;
  }
}

class MemorySlice implements Memory {
  readonly region: MemoryRegion;
  readonly byteOffset: number;
  readonly byteLength: number;

  constructor(region: MemoryRegion, byteOffset: number, byteLength: number) {
    this.region = region;
    this.byteOffset = byteOffset;
    this.byteLength = byteLength;
  }

  get pointer(): bigint {
    return this.region.pointer + BigInt(this.byteOffset);
  }

  bytes(byteOffset = 0, byteLength = this.byteLength - byteOffset): Uint8Array<ArrayBuffer> {
    return this.elements('uint8', byteOffset, byteLength);
  }

  elements<T extends ElementType>(type: T, byteOffset = 0, count?: number): TypedArrays[T] {
    const { bytes } = elementTypeFacts(type);
    const length = count ?? Math.floor((this.byteLength - byteOffset) / bytes);
    this.checkRange(byteOffset, length * bytes);
    return this.region.elements(type, this.byteOffset + byteOffset, length);
  }

  slice(byteOffset: number, byteLength = this.byteLength - byteOffset): Memory {
    this.checkRange(byteOffset, byteLength);
    return this.region.slice(this.byteOffset + byteOffset, byteLength);
  }

  private checkRange(byteOffset: number, byteLength: number): void {
    if (byteOffset >= 0 && byteLength >= 0 && byteOffset + byteLength <= this.byteLength) return;
    throw new OrtMemoryError({
      what: `${byteLength} bytes at offset ${byteOffset} do not lie inside a slice of ${this.byteLength} bytes.`,
    });
  }
}

/** Zeroed memory of our own, page-aligned, that native code may point at for as long as it is not disposed. */
export class PinnedBuffer extends MemoryRegion {
  /**
   * @throws OrtMemoryError when the system has no such amount.
   */
  static allocate(byteLength: number): PinnedBuffer {
    const mappedBytes = wholePages(byteLength);
    const address = map(mappedBytes, MAP_PRIVATE | MAP_ANONYMOUS, -1, `${byteLength} bytes of memory`);
    return new PinnedBuffer(address, byteLength, mappedBytes);
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
 * A file as memory: nothing is read until it is used, and the system may drop its pages again. Writing through a view changes this
 * process's private copy, never the file. The file must not be shortened while it is mapped (the system then ends the process).
 */
export class MappedFile extends MemoryRegion {
  readonly path: string;

  private constructor(path: string, address: bigint, byteLength: number, mappedBytes: number) {
    super(address, byteLength, mappedBytes);
    this.path = path;
  }

  /** @throws OrtMemoryError when the file cannot be opened or mapped, or is empty. */
  static open(path: string): MappedFile {
    const fd = openForReading(path);
    try {
      const { size } = fstatSync(fd);
      if (size === 0) throw new OrtMemoryError({ what: 'The file is empty.', where: path });
      const mappedBytes = wholePages(size);
      return new MappedFile(path, map(size, MAP_PRIVATE | MAP_NORESERVE, fd, path), size, mappedBytes);
    } finally {
      closeSync(fd);
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
    throw new OrtMemoryError({ what: `The file cannot be opened: ${messageOf(cause)}`, where: path, cause });
  }
}

function wholePages(byteLength: number): number {
  if (!Number.isSafeInteger(byteLength) || byteLength < 0) {
    throw new OrtMemoryError({ what: `${byteLength} is not a number of bytes.` });
  }
  return Math.max(1, Math.ceil(byteLength / PAGE_BYTES)) * PAGE_BYTES;
}

function map(byteLength: number, flags: number, fd: number, where: string): bigint {
  const address: bigint = libc().mmap(null, byteLength, PROT_READ | PROT_WRITE, flags, fd, 0);
  if (address === MAP_FAILED) throw new OrtMemoryError({ what: `mmap failed with errno ${koffi.errno()}.`, where });
  return address;
}
