import koffi from 'koffi';
import { deviceTypes, tensorLayout, typeCodes } from './binding.ts';
import { ggml, type Handle } from './library.ts';
import type { Four, TensorType } from './tensor.ts';

/** A processor that ggml computes on. */
export class Device {
  readonly name: string;
  readonly description: string;
  readonly type: keyof typeof deviceTypes;
  /** @internal */
  readonly handle: Handle<'dev'>;

  private packings: readonly Handle<'buffer_type'>[] | null = null;

  /** @internal */
  constructor(handle: Handle<'dev'>) {
    const { calls } = ggml();
    const code = calls.ggml_backend_dev_type(handle);
    this.handle = handle;
    this.name = calls.ggml_backend_dev_name(handle);
    this.description = calls.ggml_backend_dev_description(handle);
    this.type = (Object.keys(deviceTypes) as (keyof typeof deviceTypes)[]).find((type) => deviceTypes[type] === code)!;
  }

  /** Free and whole memory, in bytes. */
  get memory(): { free: number; total: number } {
    const [free, total]: [number | null][] = [[null], [null]];
    ggml().calls.ggml_backend_dev_memory(this.handle, free!, total!);
    return { free: Number(free![0]), total: Number(total![0]) };
  }

  /** The memory that packs a weight for products on this device; null where no such memory takes it. @internal */
  packingOf(type: TensorType, ne: Four): Handle<'buffer_type'> | null {
    this.packings ??= this.extraBufferTypes();
    return this.packings.find((packing) => this.packs(packing, type, ne)) ?? null;
  }

  private extraBufferTypes(): Handle<'buffer_type'>[] {
    const { calls } = ggml();
    const address = calls.ggml_backend_reg_get_proc_address(
      calls.ggml_backend_dev_backend_reg(this.handle),
      'ggml_backend_dev_get_extra_bufts',
    );
    if (address === null) return [];
    const list: bigint | null = koffi.decode(address, koffi.proto('void *', ['void *']))(this.handle);
    const types: Handle<'buffer_type'>[] = [];
    for (let i = 0; list !== null; i++) {
      const type = koffi.decode(list, 8 * i, 'void *') as Handle<'buffer_type'> | null;
      if (type === null) break;
      types.push(type);
    }
    return types;
  }

  /** Asks with a product whose weight lies in an empty buffer; of several matrices, with a product with chosen ones. */
  private packs(packing: Handle<'buffer_type'>, type: TensorType, ne: Four): boolean {
    const { calls } = ggml();
    const context = calls.ggml_init({ mem_size: 8 * calls.ggml_tensor_overhead(), mem_buffer: null, no_alloc: true });
    const buffer = calls.ggml_backend_buft_alloc_buffer(packing, 0);
    const weight = calls.ggml_new_tensor_4d(context, typeCodes[type], ...ne)!;
    koffi.encode(weight, tensorLayout.offsets.buffer, 'void *', buffer);
    const x = calls.ggml_new_tensor_4d(context, typeCodes.F32, ne[0], 1, 1, 1);
    const product =
      ne[2] * ne[3] === 1
        ? calls.ggml_mul_mat(context, weight, x)
        : calls.ggml_mul_mat_id(context, weight, x, calls.ggml_new_tensor_4d(context, typeCodes.I32, 1, 1, 1, 1));
    const answer = calls.ggml_backend_dev_supports_op(this.handle, product);
    calls.ggml_free(context);
    calls.ggml_backend_buffer_free(buffer);
    return answer;
  }
}

/** The devices of this process. @throws GgmlPlatformError, GgmlLibraryError */
export function devices(): Device[] {
  const { calls } = ggml();
  return Array.from({ length: calls.ggml_backend_dev_count() }, (_, i) => new Device(calls.ggml_backend_dev_get(i)!));
}
