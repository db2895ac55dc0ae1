import { architecturesOf } from './families/define-family.ts';
import type { ParseConfigOptions } from './families/family.ts';
import { llama4 } from './families/llama4.ts';
import type { Llama4Config, Llama4VisionConfig } from './families/llama4-config.ts';

// Until the engine asks the family that was resolved.

export type Llama4TextConfig = Llama4Config & { readonly architectures: string[] };

export function parseLlama4Config(raw: unknown, options: ParseConfigOptions = {}): Llama4TextConfig {
  const { where, overrides = {} } = options;
  const config = llama4.parseConfig(raw, options);
  return { ...config, architectures: architecturesOf('architectures' in overrides ? overrides : raw, where) };
}

export function parseLlama4VisionConfig(raw: unknown, options: ParseConfigOptions = {}): Llama4VisionConfig | null {
  return llama4.parseConfig(raw, options).vision;
}

export const smallConfigs = llama4.small();
