export type { CacheType } from './caches.ts';
export { GgmlLoweringError } from './errors.ts';
export { GgmlBackend, type GgmlBackendOptions } from './ggml-backend.ts';
export type { LoweringContext } from './lowering-context.ts';
export type { GgmlLowering } from './lowerings.ts';
export { ggmlPolicy } from './policy.ts';
