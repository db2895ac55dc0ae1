// A model from outside the packages: the one that `graft new model` writes, a Qwen3 under a name of its own.
import { createHash } from 'node:crypto';
import { cpSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { type Checkpoint, coreModels, loadWeights, openCheckpoint, upstreamContext, writeCheckpoint } from '@graft/core-model';
import { graftVersion } from '@graft/engine';
import { loadPlugins } from '@graft/registry';
import { packageManifest } from '@graft/registry/manifest';
import { expect, onTestFinished, test } from 'vitest';
import { newProject } from './new-project.fixture.ts';
import { interpreter } from './parity/backends.ts';
import { readReferenceCase } from './parity/reference-case.ts';
import { runCase } from './parity/run-case.ts';
import { root } from './sources.ts';

const project = newProject('model');
const href = (file: string): string => pathToFileURL(join(project, file)).href;
const { family } = (await import(href('src/family.ts'))) as typeof import('../packages/server/templates/model/src/family.ts');
const { MyModelForCausalLM } = (await import(href('src/model.ts'))) as typeof import('../packages/server/templates/model/src/model.ts');
const { default: plugin } = await import(href('src/plugin.ts'));
const architecture = 'MyModelForCausalLM';
const published = join(root, 'tests/parity/cases/qwen3-norms');

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
  const backend = { ...interpreter, plugins: [...interpreter.plugins, href('src/plugin.ts')] };
  const { passed, line } = await runCase(await readReferenceCase(referenceFolder()), backend, project);
  expect(passed, line).toBe(true);
});

test('what was loaded is written back byte by byte', async () => {
  const checkpoint = await open(published);
  const config = family.parseConfig(checkpoint.config);
  const rules = family.weights(config);
  const model = new MyModelForCausalLM(upstreamContext(architecture, config));
  await loadWeights(model, checkpoint, { policy: () => 'bfloat16', cacheDirectory: null, rules });
  const copy = temporaryFolder();
  writeCheckpoint(copy, new Map(model.namedParameters()), { rules, config: checkpoint.config as Record<string, unknown> });
  const digests = ({ tensors }: Checkpoint) =>
    new Map([...tensors].map(([key, t]) => [key, createHash('sha256').update(t.file.read(t.offset, t.byteLength)).digest('hex')]));
  expect(digests(await open(copy))).toEqual(digests(checkpoint));
});

test('its manifest in the template is what graft-manifest writes', async () => {
  expect(readFileSync(join(project, 'src/manifest.ts'), 'utf8')).toBe(await packageManifest(project));
});
