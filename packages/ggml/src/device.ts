import { deviceTypes } from './binding.ts';
import { ggml, type Handle } from './library.ts';

/** A processor that ggml computes on. */
export class Device {
  readonly name: string;
  readonly description: string;
  readonly type: keyof typeof deviceTypes;
  /** @internal */
  readonly handle: Handle<'dev'>;

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
}

/** The devices of this process. @throws GgmlPlatformError, GgmlLibraryError */
export function devices(): Device[] {
  const { calls } = ggml();
  return Array.from({ length: calls.ggml_backend_dev_count() }, (_, i) => new Device(calls.ggml_backend_dev_get(i)!));
}
