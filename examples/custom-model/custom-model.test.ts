import { createHash } from 'node:crypto';
import { cpSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { type Checkpoint, coreModels, loadWeights, openCheckpoint, upstreamContext, writeCheckpoint } from '@graft/core-model';
import { graftVersion } from '@graft/engine';
import { loadPlugins } from '@graft/registry';
import { expect, onTestFinished, test } from 'vitest';
import { interpreter } from '../../tests/parity/backends.ts';
import { readReferenceCase } from '../../tests/parity/reference-case.ts';
import { runCase } from '../../tests/parity/run-case.ts';
import { qwen3 } from './src/family.ts';
import { Qwen3ForCausalLM } from './src/model.ts';
import plugin from './src/plugin.ts';

const architecture = 'MyQwen3ForCausalLM';
const published = fileURLToPath(new URL('../../tests/parity/cases/qwen3-norms', import.meta.url));

function temporaryFolder(): string {
  const path = mkdtempSync(join(tmpdir(), 'graft-custom-model-'));
  onTestFinished(() => rmSync(path, { recursive: true }));
  return path;
}

/** The reference case under the plugin's own architecture. */
function referenceFolder(): string {
  const folder = temporaryFolder();
  cpSync(published, folder, { recursive: true });
  const path = join(folder, 'config.json');
  writeFileSync(path, JSON.stringify({ ...JSON.parse(readFileSync(path, 'utf8')), architectures: [architecture] }));
  return folder;
}

async function open(path: string): Promise<Checkpoint> {
  const checkpoint = await openCheckpoint(path);
  onTestFinished(() => checkpoint[Symbol.dispose]());
  return checkpoint;
}

test('the plugin brings the architecture and the parts of it that others may override', async () => {
  const { registry } = await loadPlugins({ plugins: [coreModels, plugin], specifiers: [], graftVersion });
  expect(registry.list().map(({ architecture }) => architecture)).toContain(architecture);
});

test('the engine serves it, with the numbers of the published implementation', async () => {
  const app = fileURLToPath(new URL('.', import.meta.url));
  const backend = { ...interpreter, plugins: [...interpreter.plugins, new URL('./src/plugin.ts', import.meta.url).href] };
  const { passed, line } = await runCase(await readReferenceCase(referenceFolder()), backend, app);
  expect(passed, line).toBe(true);
});

test('what was loaded is written back byte by byte', async () => {
  const checkpoint = await open(published);
  const config = qwen3.parseConfig(checkpoint.config);
  const rules = qwen3.weights(config);
  const model = new Qwen3ForCausalLM(upstreamContext(architecture, config));
  await loadWeights(model, checkpoint, { policy: () => 'bfloat16', cacheDirectory: null, rules });
  const copy = temporaryFolder();
  writeCheckpoint(copy, new Map(model.namedParameters()), { rules, config: checkpoint.config as Record<string, unknown> });
  const digests = ({ tensors }: Checkpoint) =>
    new Map([...tensors].map(([key, t]) => [key, createHash('sha256').update(t.file.read(t.offset, t.byteLength)).digest('hex')]));
  expect(digests(await open(copy))).toEqual(digests(checkpoint));
});

test('a sliding window, which is not computed, is refused by its key', () => {
  const raw = { ...qwen3.small()[architecture], use_sliding_window: true };
  expect(() => qwen3.parseConfig(raw)).toThrow('key "use_sliding_window"');
});
