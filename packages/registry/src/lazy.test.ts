import { execFile } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { expect, test } from 'vitest';

const dist = fileURLToPath(new URL('../dist/', import.meta.url));

test('registering, listing and resolving 400 lazy entries imports no model module (a child process, on the built files)', async () => {
  const root = mkdtempSync(join(dist, 'lazy-'));
  try {
    writeFileSync(join(root, 'model.mjs'), 'globalThis.imported = (globalThis.imported ?? 0) + 1;\nexport class Model {}\n');
    writeFileSync(
      join(root, 'main.mjs'),
      `import { definePlugin, loadPlugins } from '../index.js';
const names = Array.from({ length: 400 }, (_, index) => 'Architecture' + index);
const model = (name) => () => import('./model.mjs?' + name).then((m) => m.Model);
const plugin = definePlugin({
  name: 'many',
  models: names.map((architecture) => ({ architecture, model: model(architecture) })),
  overrides: names.map((architecture) => ({ of: architecture, platform: 'hpu', factory: async () => (Base) => class extends Base {} })),
});
const { registry } = await loadPlugins({ graftVersion: '0.1.0', specifiers: [], plugins: [plugin] });
const listed = registry.list().length;
const resolved = names.map((name) => registry.resolve([name], { platform: 'hpu' }));
const before = globalThis.imported ?? 0;
await registry.load(resolved[7]);
console.log(JSON.stringify({ listed, resolved: resolved.length, before, after: globalThis.imported }));
`,
    );
    const { stdout } = await promisify(execFile)(process.execPath, [join(root, 'main.mjs')]);
    expect(JSON.parse(stdout)).toMatchObject({ listed: 400, resolved: 400, before: 0, after: 1 });
  } finally {
    rmSync(root, { recursive: true });
  }
});
