import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { LlmEngine, type StartOptions } from '@graft/engine';
import { onTestFinished } from 'vitest';
import { caseFolder } from './run-variants.fixture.ts';

export const hpuPlugin = new URL('./plugin.ts', import.meta.url).href;

/** A folder that is gone after the test. */
export function temporaryFolder(): string {
  const folder = mkdtempSync(join(tmpdir(), 'graft-hpu-'));
  onTestFinished(() => rmSync(folder, { recursive: true, force: true }));
  return folder;
}

/** A reference case on the emulated device, closed after the test. Sizes of three chunks of it. */
export async function startHpu(name: string, more: Record<string, unknown> = {}, options: StartOptions = {}): Promise<LlmEngine> {
  const engine = await LlmEngine.start(
    {
      model: caseFolder(name),
      plugins: [hpuPlugin],
      platform: 'hpu',
      maxSequences: 4,
      maxModelLength: 48,
      prefillTokens: 12,
      threads: 1,
      cacheDirectory: temporaryFolder(),
      ...more,
    },
    options,
  );
  onTestFinished(() => engine.close());
  return engine;
}
