export { EmulatedBackend, type EmulatedBackendOptions, type StaticMode } from './emulated-backend.ts';
export type { EmulatedProgram } from './emulated-program.ts';
export { StaticDeviceGraphError, StaticDeviceRecipeError, StaticDeviceWeightError } from './errors.ts';
export { packageCode } from './package-code.ts';
