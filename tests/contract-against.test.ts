import { execFileSync } from 'node:child_process';
import { cpSync, mkdirSync, mkdtempSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { PassThrough } from 'node:stream';
import type { UpstreamComparison } from '@graft/registry';
import { afterAll, expect, test } from 'vitest';
import { renderManifest } from '../packages/registry/src/build-manifest.ts';
import { readUpstream } from '../packages/registry/src/package-manifest.ts';
import { runCli } from '../packages/server/src/cli/main.ts';
import { root } from './sources.ts';

const temporary = mkdtempSync(join(tmpdir(), 'graft-against-test-'));
afterAll(() => rmSync(temporary, { recursive: true }));

/** A copy of core-model's package.json and of the sources of its models, at another version, with texts of some files replaced. */
function changedCopy(name: string, edits: Record<string, readonly (readonly [string | RegExp, string])[]>, version = '0.1.0'): string {
  const folder = join(temporary, name, 'package');
  mkdirSync(folder, { recursive: true });
  for (const part of ['src/models', 'src/layers']) cpSync(join(root, 'packages/core-model', part), join(folder, part), { recursive: true });
  const facts = JSON.parse(readFileSync(join(root, 'packages/core-model/package.json'), 'utf8')) as object;
  writeFileSync(join(folder, 'package.json'), JSON.stringify({ ...facts, version }));
  for (const [file, changes] of Object.entries(edits)) {
    const path = join(folder, 'src', file);
    let text = readFileSync(path, 'utf8');
    for (const [from, to] of changes) {
      const changed = text.replaceAll(typeof from === 'string' ? from : new RegExp(from, 'g'), to);
      expect(changed).not.toBe(text);
      text = changed;
    }
    writeFileSync(path, text);
  }
  return folder;
}

async function contract(...args: string[]) {
  const [stdin, stdout, stderr] = [new PassThrough(), new PassThrough(), new PassThrough()];
  const code = await runCli(['contract', ...args], { stdin, stdout, stderr });
  const read = (stream: PassThrough): string => String((stream.read() as Buffer | null) ?? '');
  return { code, out: read(stdout), err: read(stderr) };
}

const hpu = ['llama4-hpu', '--plugins', join(root, 'packages/llama4-hpu/src/plugin.ts')];
const example = join(root, 'examples/first-override');
const first = ['first-override', '--plugins', `${join(example, 'interpreter-cpu.ts')},${join(example, 'plugin.ts')}`];

const changed = () =>
  changedCopy('changed', {
    'models/llama4.ts': [
      ['getAttnScale', 'computeAttnScale'],
      ['attnTemperatureTuning', 'temperatureTuning'],
      ['ChunkedLocalAttention', 'LocalChunkAttention'],
      ['residual: Tensor | null)', 'residual: Tensor | null, scale: number)'],
    ],
    'layers/attention.ts': [['ChunkedLocalAttention', 'LocalChunkAttention']],
    'models/decoder.ts': [['computeLogits(hiddenStates: Tensor)', 'computeLogits(hiddenStates: Tensor, rows: Tensor)']],
    'layers/norm.ts': [['weight', 'gain']],
  });

/** The flags that name a plugin, whose source is written to a file. */
function written(name: string, source: string): string[] {
  const plugin = join(temporary, `${name}.ts`);
  writeFileSync(plugin, `import { definePlugin } from '${join(root, 'packages/registry/src/index.ts')}';\n${source}`);
  return [name, '--plugins', `${join(example, 'interpreter-cpu.ts')},${plugin}`];
}

test.each([
  ['llama4-hpu', hpu],
  ['first-override', first],
])('an unchanged copy differs in nothing that %s relies on', async (_, plugin) => {
  const { code, out, err } = await contract(...plugin, '--against', changedCopy('same', {}));
  expect(err).toBe('');
  expect(out).toContain('against @graft/core-model 0.1.0 (its sources): no difference in');
  expect(code).toBe(0);
});

test('each change of a copy is named with what relies on it, for a folder and for a tarball', async () => {
  const folder = changed();
  renameSync(join(folder, 'src/layers/norm.ts'), join(folder, 'src/layers/rms-norm.ts'));
  const tarball = join(temporary, 'changed.tgz');
  execFileSync('tar', ['czf', tarball, '-C', join(temporary, 'changed'), 'package']);
  const outputs = await Promise.all([folder, tarball].map((path) => contract(...hpu, '--against', path)));
  for (const { code, out } of outputs) {
    expect(out.split('\n')).toEqual(
      expect.arrayContaining([
        expect.stringMatching(
          /^ {2}method Llama4Attention\.getAttnScale is gone; now there is "computeAttnScale".* <- .*override of Llama4ForCausalLM on platform "hpu" of plugin "llama4-hpu" \(.*plugin\.ts\)/,
        ),
        expect.stringMatching(
          /^ {2}field Llama4Attention\.attnTemperatureTuning is gone; now there is "temperatureTuning".* <- .*plugin "llama4-hpu"/,
        ),
        expect.stringMatching(/^ {2}class ChunkedLocalAttention is gone; now there is "LocalChunkAttention".* <- .*plugin "llama4-hpu"/),
        expect.stringMatching(
          /^ {2}Llama4DecoderLayer\.forward\(positions, hiddenStates, residual\) is forward\(positions, hiddenStates, residual, scale\) now <- .*override of Llama4Model/,
        ),
        expect.stringMatching(/^ {2}the body of Llama4Attention\.forward, which was copied, changed/),
      ]),
    );
    expect(code).toBe(1);
  }
  const { code, out } = await contract(...first, '--against', folder);
  expect(out.split('\n')).toEqual(
    expect.arrayContaining([
      expect.stringMatching(
        /^ {2}class RmsNorm moved from @graft\/core-model\/src\/layers\/norm\.ts to @graft\/core-model\/src\/layers\/rms-norm\.ts <- .*override of RmsNorm/,
      ),
      expect.stringMatching(/computeLogits\(hiddenStates\) is computeLogits\(hiddenStates, rows\) now <- .*override of Llama4ForCausalLM/),
    ]),
  );
  expect(code).toBe(1);
});

test('a renamed parameter and a renamed part of a path are found on the classes that have them, as data too', async () => {
  const flags = written(
    'paths',
    `import { FirstOverride } from '${join(example, 'plugin.ts')}';
export default definePlugin({
  name: 'paths',
  overrides: [{ of: 'Llama4ForCausalLM', platform: 'cpu', model: async () => FirstOverride,
    reliesOn: { attributes: ['model.layers.*.self_attn.attnTemperatureTuning'], parameters: ['model.norm.weight'] } }],
});`,
  );
  const { code, out } = await contract(...flags, '--against', changed(), '--json');
  const { against, differences } = JSON.parse(out) as UpstreamComparison;
  expect(against).toEqual({ package: '@graft/core-model', version: '0.1.0', readFrom: 'sources' });
  const found = differences.filter(({ kind }) => kind === 'attribute').map(({ what }) => what);
  expect(found).toEqual([
    expect.stringContaining('field Llama4Attention.attnTemperatureTuning is gone; now there is "temperatureTuning"'),
    expect.stringContaining('field RmsNorm.weight is gone; now there is "gain"'),
  ]);
  expect(code).toBe(1);
});

test('a class that is renamed is found through the scope of an override and through a hook, and its new name is the nearest', async () => {
  const flags = written(
    'scoped',
    `import { RmsNorm } from '${join(root, 'packages/core-model/src/index.ts')}';
export default definePlugin({
  name: 'scoped', after: ['core-model'],
  overrides: [{ of: 'RmsNorm', platform: 'cpu', within: ['Llama4ForCausalLM'], model: async () => class extends RmsNorm {} }],
  hooks: [{ of: 'LlamaMlp', platform: 'cpu', phase: 'init', run() {} }],
});`,
  );
  const folder = changedCopy('renamed', {
    'models/llama4.ts': [
      ['Llama4ForCausalLM', 'Scout'],
      ['LlamaMlp', 'FeedForward'],
    ],
    'models/llama.ts': [['LlamaMlp', 'FeedForward']],
  });
  cpSync(join(root, 'packages/core-model/src/weights'), join(folder, 'src/weights'), { recursive: true });
  const { code, out } = await contract(...flags, '--against', folder);
  expect(out).toMatch(/^ {2}class Llama4ForCausalLM is gone; now there is "Scout" <- override of RmsNorm/m);
  expect(out).toMatch(/^ {2}class LlamaMlp is gone; now there is "FeedForward" <- hook of LlamaMlp/m);
  expect(code).toBe(1);
});

test('without sources the built manifest of the package is read', async () => {
  const folder = changed();
  const { manifest } = await readUpstream(folder);
  rmSync(join(folder, 'src'), { recursive: true });
  mkdirSync(join(folder, 'dist'));
  writeFileSync(
    join(folder, 'dist/manifest.js'),
    renderManifest(manifest)
      .replace(/^import.*$/m, '')
      .replace(': UpstreamManifest', ''),
  );
  const { code, out } = await contract(...hpu, '--against', folder);
  expect(out).toContain('against @graft/core-model 0.1.0 (its built manifest): ');
  expect(out).toContain('method Llama4Attention.getAttnScale is gone; now there is "computeAttnScale"');
  expect(code).toBe(1);
});

test('a version outside of the range that an override states is a difference', async () => {
  const { code, out } = await contract(...hpu, '--against', changedCopy('newer', {}, '0.2.0'));
  expect(out).toContain('@graft/core-model is 0.2.0, outside of version "^0.1.0" <- override of Llama4ForCausalLM');
  expect(code).toBe(1);
});

test.each(['>=0.2.0', 'graft >=0.2.0'])('a patch that a newer version no longer needs is to be removed (%s)', async (removeWhen) => {
  const plugin = join(temporary, `patching-${removeWhen.length}.ts`);
  writeFileSync(
    plugin,
    `import { definePlugin } from '${join(root, 'packages/registry/src/index.ts')}';
export default definePlugin({
  name: 'patching',
  hooks: [{ of: 'LlamaForCausalLM', platform: 'cpu', phase: 'init', run: (model, _, patches) =>
    patches.replaceMethod(model.model.norm, 'factors', function factors() { return this.weight; }, { upstream: 'https://example.com/pull/7', removeWhen: '${removeWhen}' }) }],
});`,
  );
  const flags = ['patching', '--plugins', `${join(example, 'interpreter-cpu.ts')},${plugin}`];
  const same = await contract(...flags, '--against', changedCopy(`same-${removeWhen.length}`, {}));
  expect(same.out).toContain('no difference in 2 classes and members');
  const { code, out } = await contract(...flags, '--against', changedCopy(`newer-${removeWhen.length}`, {}, '0.2.0'));
  expect(out).toContain('is 0.2.0, which no longer needs it (removeWhen ');
  expect(out).toContain('; remove it: https://example.com/pull/7 <- patch by patching: hook 1 of plugin "patching" (file:');
  expect(code).toBe(1);
});

test.each([
  ['GRAFT_PLUGIN_NOT_LOADED', 'llama4-hpi', changedCopy('fine', {}), 'nearest: "llama4-hpu"'],
  ['GRAFT_UPSTREAM_UNREADABLE', 'llama4-hpu', temporary, 'package.json'],
  ['GRAFT_UPSTREAM_UNKNOWN', 'llama4-hpu', join(root, 'packages/common'), '"@graft/core-model" and "@graft/graph"'],
  ['GRAFT_CLI_USAGE', 'llama4-hpu', join(temporary, 'nothing'), 'does not exist'],
  ['GRAFT_CLI_USAGE', 'llama4-hpu', join(root, 'package.json'), 'is not a tarball of a package'],
])('%s has exit code 2', async (code, plugin, path, says) => {
  const { code: exit, err } = await contract(plugin, ...hpu.slice(1), '--against', path);
  expect(err).toContain(code);
  expect(err).toContain(says);
  expect(exit).toBe(2);
});
