export type { CachePlace, CacheType } from './caches.ts';
export { GgmlLoweringError, GpuMemoryError, GpuOptionError } from './errors.ts';
export { GgmlBackend, type GgmlBackendOptions } from './ggml-backend.ts';
export type { GgmlProgram } from './ggml-program.ts';
export type { LoweringContext } from './lowering-context.ts';
export type { GgmlLowering } from './lowerings.ts';
export { GpuPlatform } from './platforms.ts';
export { ggmlPolicy } from './policy.ts';
export { GgmlStaticBackend, type GgmlStaticBackendOptions } from './static-backend.ts';
