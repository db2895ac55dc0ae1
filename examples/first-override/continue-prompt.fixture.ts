import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { type EngineInfo, LlmEngine } from '@graft/engine';

export const here = fileURLToPath(new URL('.', import.meta.url));
export const model = join(here, '../../tests/parity/cases/dense-tiny');

export interface Continued {
  info: EngineInfo;
  tokenIds: number[];
  /** After each token of the prompt and of the answer. */
  logits: number[];
}

/** Continues a prompt of seven tokens by eight on platform cpu. Without `plugins`, those that this folder's package.json lists. */
export async function continuePrompt(plugins?: string[]): Promise<Continued> {
  const cacheDirectory = mkdtempSync(join(tmpdir(), 'graft-example-'));
  const engine = await startEngine(model, { cacheDirectory, ...(plugins !== undefined && { plugins }) });
  try {
    return await continueWith(engine);
  } finally {
    await engine.close();
    rmSync(cacheDirectory, { recursive: true });
  }
}

export function startEngine(checkpoint: string, options: { cacheDirectory: string; plugins?: string[] }): Promise<LlmEngine> {
  return LlmEngine.start({ model: checkpoint, app: here, platform: 'cpu', weights: 'float32', ...options });
}

/** The same on an engine that runs. */
export async function continueWith(engine: LlmEngine): Promise<Continued> {
  const continued: Continued = { info: engine.info, tokenIds: [], logits: [] };
  const observer = {
    promptLogits: true,
    onLogits: (_position: number, logits: Float32Array): void => void continued.logits.push(...logits),
  };
  const request = { prompt: { tokenIds: [3, 141, 59, 26, 53, 58, 97] }, sampling: { temperature: 0, ignoreEos: true, maxTokens: 8 } };
  for await (const { tokenIds } of engine.generate(request, { observer })) continued.tokenIds.push(...tokenIds);
  return continued;
}

export function largestDifference(a: readonly number[], b: readonly number[]): number {
  if (a.length !== b.length) return Number.POSITIVE_INFINITY;
  return a.reduce((largest, value, i) => Math.max(largest, Math.abs(value - b[i]!)), 0);
}
