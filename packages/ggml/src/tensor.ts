import { NativeResource } from '@graft/common';
import { typeCodes } from './binding.ts';
import { GgmlTensorError } from './errors.ts';
import { ggml, type Handle } from './library.ts';

/** An element type of ggml. Those with a number after a letter (`Q4_0`, `Q6_K`) are quantised in blocks. */
export type TensorType = keyof typeof typeCodes;
/** Four sizes or four strides in bytes, the fastest axis first: the reverse of row-major dims. */
export type Four = readonly [number, number, number, number];

/** Tensors that one allocation of ggml holds the descriptions of. */
const chunkTensors = 256;

const blocks = new Map<TensorType, { elements: number; bytes: number }>();

/** The elements of a block of a type, and its bytes; plain types have blocks of one element. */
export function blockOf(type: TensorType): { elements: number; bytes: number } {
  const { calls } = ggml();
  const known = blocks.get(type) ?? { elements: calls.ggml_blck_size(typeCodes[type]), bytes: calls.ggml_type_size(typeCodes[type]) };
  blocks.set(type, known);
  return known;
}

/** Sizes with ones for the axes that are left out. @throws GgmlTensorError unless all are whole numbers from 1 on */
export function fourOf(sizes: readonly number[], where: string): Four {
  const [a = 1, b = 1, c = 1, d = 1, ...more] = sizes;
  const count = a * b * c * d;
  if (more.length === 0 && [a, b, c, d].every((size) => Number.isSafeInteger(size) && size >= 1) && Number.isSafeInteger(count * 8))
    return [a, b, c, d];
  throw new GgmlTensorError(where, `[${sizes.join(', ')}] are not one to four sizes from 1 on.`);
}

/** The strides of a tensor without gaps. */
export function packedStrides(type: TensorType, [a, b, c]: Four): Four {
  const { elements, bytes } = blockOf(type);
  const row = (a / elements) * bytes;
  return [bytes, row, row * b, row * b * c];
}

interface TensorFacts {
  readonly arena: TensorArena;
  readonly handle: Handle<'tensor'>;
  readonly type: TensorType;
  /** Sizes, the fastest axis first. */
  readonly ne: Four;
  /** Strides in bytes. */
  readonly nb: Four;
  /** Bytes from its first element to the end of the memory that it may touch. */
  readonly span: number;
  /** Of an I32 tensor of indices: each value is from 0 up to, not including, this; null where nothing guarantees it. */
  readonly below: number | null;
  /** Of a view: the tensor whose memory it shows. */
  readonly of?: Tensor;
}

/** A description of a tensor. Its memory belongs to a buffer or to a graph's memory. */
export class Tensor {
  readonly arena: TensorArena;
  readonly handle: Handle<'tensor'>;
  readonly type: TensorType;
  readonly ne: Four;
  readonly nb: Four;
  readonly span: number;
  readonly below: number | null;
  /** Whether its elements lie in order and without gaps. */
  readonly isContiguous: boolean;
  /** The tensor whose memory it shows: itself, unless it is a view. */
  readonly root: Tensor;
  /** The memory of a root; null until it has some. @internal */
  memory: NativeResource | null = null;
  /** Whether its memory has a form of its own, which only products read. @internal */
  isPacked = false;

  /** @internal */
  constructor({ arena, handle, type, ne, nb, span, below, of }: TensorFacts) {
    this.root = of?.root ?? this;
    this.arena = arena;
    this.handle = handle;
    this.type = type;
    this.ne = ne;
    this.nb = nb;
    this.span = span;
    this.below = below;
    const packed = packedStrides(type, ne);
    this.isContiguous = ne.every((size, axis) => size === 1 || nb[axis] === packed[axis]);
  }

  get elements(): number {
    return this.ne.reduce((product, size) => product * size, 1);
  }

  /** The bytes from its first element to its last one. */
  get bytes(): number {
    return extentOf(this.type, this.ne, this.nb);
  }

  /** Whether elements of the fastest axis are neighbours. */
  get hasPackedRows(): boolean {
    return this.nb[0] === blockOf(this.type).bytes;
  }

  toString(): string {
    return `${this.type} [${this.ne.join(', ')}]`;
  }
}

/** The bytes from the first element to the last one. */
export function extentOf(type: TensorType, ne: Four, nb: Four): number {
  const { elements, bytes } = blockOf(type);
  const row = elements === 1 ? (ne[0] - 1) * nb[0] + bytes : (ne[0] / elements) * nb[0];
  return row + (ne[1] - 1) * nb[1] + (ne[2] - 1) * nb[2] + (ne[3] - 1) * nb[3];
}

/** Holds descriptions of tensors, and grows as needed. */
export class TensorArena extends NativeResource {
  private readonly contexts: Handle<'context'>[] = [];
  private room = 0;
  private readonly used = new Set<NativeResource>();

  /** A tensor whose memory is allotted later. @throws GgmlTensorError */
  tensor(type: TensorType, sizes: readonly number[], { below = null }: { below?: number | null } = {}): Tensor {
    const ne = fourOf(sizes, `a tensor ${type}`);
    const block = blockOf(type);
    if (ne[0] % block.elements !== 0)
      throw new GgmlTensorError(`a tensor ${type}`, `Rows of ${ne[0]} elements are not made of blocks of ${block.elements}.`);
    const handle = ggml().calls.ggml_new_tensor_4d(this.context(), typeCodes[type], ...ne)!;
    const nb = packedStrides(type, ne);
    return new Tensor({ arena: this, handle, type, ne, nb, span: extentOf(type, ne, nb), below });
  }

  /** The context that the next `count` tensors are described in. @internal */
  context(count = 1): Handle<'context'> {
    this.assertUsable();
    if (this.room < count) {
      const { calls } = ggml();
      const mem_size = chunkTensors * calls.ggml_tensor_overhead();
      this.contexts.push(calls.ggml_init({ mem_size, mem_buffer: null, no_alloc: true })!);
      this.room = chunkTensors;
    }
    this.room -= count;
    return this.contexts.at(-1)!;
  }

  /** The handle of an operand. A tensor of another arena must have memory, and both live as long as this arena. @internal */
  use(tensor: Tensor, isWeight = false): Handle<'tensor'> {
    this.assertUsable();
    const { arena, root } = tensor;
    if (root.isPacked && !isWeight) throw new GgmlTensorError(tensor.toString(), 'A packed matrix can only be the weight of products.');
    if (arena === this) return tensor.handle;
    if (root.memory === null)
      throw new GgmlTensorError(tensor.toString(), 'An operand from another arena has no memory yet.', 'place it in a buffer first.');
    for (const resource of [arena, root.arena, root.memory]) {
      resource.assertUsable();
      if (!this.used.has(resource)) this.used.add(resource.retain());
    }
    return tensor.handle;
  }

  protected override describe(): string {
    return 'The arena of these tensors';
  }

  protected override free(): void {
    for (const context of this.contexts) ggml().calls.ggml_free(context);
    for (const resource of this.used) resource.release();
  }
}
