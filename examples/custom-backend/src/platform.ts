import type { Detection, Platform } from '@graft/registry';

const runtime = 'onnxruntime-web';

/** WebAssembly in this process. `detect` is called once and only looks: what it answers decides before anything is loaded. */
export const wasmPlatform: Platform = {
  name: 'wasm',
  modes: ['full'],
  detect(): Detection {
    try {
      return { device: 'device', reason: `WebAssembly of this process, by ${import.meta.resolve(runtime)}; it has no WebGPU` };
    } catch (cause) {
      return { device: 'absent', reason: `${runtime} is not installed (${String(cause)})` };
    }
  },
};
