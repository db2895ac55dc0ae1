export { OrtBackend, type OrtBackendOptions } from './ort-backend.ts';
export { OrtProgram } from './ort-program.ts';
export { cpuPlatform } from './platform.ts';
