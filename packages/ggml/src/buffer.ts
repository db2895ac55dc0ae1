import { NativeResource } from '@graft/common';
import type { Device } from './device.ts';
import { GgmlTensorError } from './errors.ts';
import { ggml, type Handle } from './library.ts';
import { blockOf, type Tensor } from './tensor.ts';

/** Memory outside JavaScript's heap that someone else owns, such as a mapped file. */
export interface HostMemory {
  readonly pointer: bigint;
  readonly byteLength: number;
  retain(): unknown;
  release(): void;
}

/** Memory of a device for weights and caches. It is freed when no graph uses it any more. */
export class DeviceBuffer extends NativeResource {
  readonly byteLength: number;
  private readonly handle: Handle<'buffer'>;
  private readonly base: bigint;
  private readonly host: HostMemory | null;

  private constructor(handle: Handle<'buffer'>, byteLength: number, host: HostMemory | null) {
    super();
    this.handle = handle;
    this.byteLength = byteLength;
    this.base = ggml().calls.ggml_backend_buffer_get_base(handle) as bigint;
    this.host = host;
  }

  /** New memory for these tensors, filled with zeros. @throws GgmlCallError when the device has too little */
  static holding(device: Device, tensors: readonly Tensor[]): DeviceBuffer {
    return DeviceBuffer.of(device, ggml().calls.ggml_backend_dev_buffer_type(device.handle)!, tensors);
  }

  /**
   * Memory that holds a matrix in the form in which the device multiplies fastest. The matrix can then only be the weight of products. Null where the device
   * has no other form of it.
   */
  static packing(device: Device, weight: Tensor): DeviceBuffer | null {
    const packing = device.packingOf(weight.type, weight.ne);
    if (packing === null) return null;
    weight.isPacked = true;
    return DeviceBuffer.of(device, packing, [weight]);
  }

  private static of(device: Device, type: Handle<'buffer_type'>, tensors: readonly Tensor[]): DeviceBuffer {
    const { calls } = ggml();
    const alignment = calls.ggml_backend_buft_get_alignment(type);
    let bytes = 0;
    const offsets = tensors.map((tensor) => {
      tensor.arena.assertUsable();
      const offset = Math.ceil(bytes / alignment) * alignment;
      bytes = offset + calls.ggml_backend_buft_get_alloc_size(type, tensor.handle);
      return offset;
    });
    const what = `${device.name} has no room for ${bytes} bytes.`;
    const handle = ggml().logged(what, device.description, () => calls.ggml_backend_buft_alloc_buffer(type, Math.max(bytes, alignment)));
    const buffer = new DeviceBuffer(handle, bytes, null);
    if (!tensors.some(({ isPacked }) => isPacked)) calls.ggml_backend_buffer_clear(handle, 0);
    for (const [i, tensor] of tensors.entries()) buffer.put(tensor, offsets[i]!);
    return buffer;
  }

  /** Tensors over memory that is already there, without a copy. Only a device that computes in this computer's memory can do so. @throws GgmlCallError */
  static over(device: Device, host: HostMemory): DeviceBuffer {
    const { calls } = ggml();
    const what = `${device.name} cannot use memory in place.`;
    const handle = ggml().logged(what, device.description, () =>
      calls.ggml_backend_dev_buffer_from_host_ptr(device.handle, host.pointer, host.byteLength, host.byteLength),
    );
    host.retain();
    return new DeviceBuffer(handle, host.byteLength, host);
  }

  /** Gives a tensor the memory from `offset` on. @throws GgmlTensorError when the tensor does not fit there or has memory */
  place(tensor: Tensor, offset: number): void {
    this.assertUsable();
    tensor.arena.assertUsable();
    const { bytes } = tensor;
    if (!Number.isSafeInteger(offset) || offset < 0 || offset + bytes > this.byteLength)
      throw new GgmlTensorError(tensor.toString(), `${bytes} bytes at offset ${offset} exceed the buffer of ${this.byteLength} bytes.`);
    if (offset % Math.min(4, blockOf(tensor.type).bytes) !== 0)
      throw new GgmlTensorError(tensor.toString(), `Offset ${offset} is not aligned.`);
    this.put(tensor, offset);
  }

  /** Copies bytes into a tensor of this buffer. @throws GgmlTensorError unless they fill it */
  write(tensor: Tensor, data: ArrayBufferView): void {
    this.assertUsable();
    if (tensor.memory !== this) throw new GgmlTensorError(tensor.toString(), 'The tensor is not in this buffer.');
    if (data.byteLength !== tensor.bytes)
      throw new GgmlTensorError(tensor.toString(), `The tensor has ${tensor.bytes} bytes; ${data.byteLength} were given.`);
    this.writeAt(tensor, 0, data);
  }

  /** Copies bytes to a place in a tensor of this buffer. @throws GgmlTensorError when they are not all in the tensor */
  writeAt(tensor: Tensor, offset: number, data: ArrayBufferView): void {
    this.expectRange(tensor, offset, data.byteLength);
    ggml().calls.ggml_backend_tensor_set(tensor.handle, data, offset, data.byteLength);
  }

  /** A copy of bytes of a tensor of this buffer. @throws GgmlTensorError when they are not all in the tensor */
  readAt(tensor: Tensor, offset: number, byteLength: number): Uint8Array {
    this.expectRange(tensor, offset, byteLength);
    const bytes = new Uint8Array(byteLength);
    ggml().calls.ggml_backend_tensor_get(tensor.handle, bytes, offset, byteLength);
    return bytes;
  }

  private expectRange(tensor: Tensor, offset: number, byteLength: number): void {
    this.assertUsable();
    const whole = [offset, byteLength].every((value) => Number.isSafeInteger(value) && value >= 0);
    if (tensor.memory !== this || !whole || offset + byteLength > tensor.bytes)
      throw new GgmlTensorError(tensor.toString(), `${byteLength} bytes from ${offset} on are not in the tensor.`);
  }

  protected override describe(): string {
    return `The buffer of ${this.byteLength} bytes`;
  }

  protected override free(): void {
    ggml().calls.ggml_backend_buffer_free(this.handle);
    this.host?.release();
  }

  private put(tensor: Tensor, offset: number): void {
    if (tensor.memory !== null) throw new GgmlTensorError(tensor.toString(), 'The tensor has memory already.');
    if (tensor.root !== tensor) throw new GgmlTensorError(tensor.toString(), 'A view has the memory of its tensor.');
    ggml().calls.ggml_backend_tensor_alloc(this.handle, tensor.handle, this.base + BigInt(offset));
    tensor.memory = this;
  }
}
