import { createRequire } from 'node:module';
import type { Detection, Platform } from '@graft/registry';

/** WebAssembly in this process. `detect` is called once, before anything is loaded: it only looks, and says what it saw. */
export const wasmPlatform: Platform = { name: 'wasm', modes: ['full'], detect: () => detectRuntime('onnxruntime-web') };

/** @param runtime the package that brings ONNX Runtime for WebAssembly. */
export function detectRuntime(runtime: string): Detection {
  try {
    const file = createRequire(import.meta.url).resolve(runtime);
    return { device: 'device', reason: `WebAssembly of this process with ${file}` };
  } catch {
    return { device: 'absent', reason: `the package ${runtime} is not installed` };
  }
}
