// Regenerates src/onnx/onnx_pb.ts from the onnx.proto in the PyPI package `onnx`. Needs pip, python3 and this package's devDependencies.
// Usage: node packages/onnxruntime/scripts/generate-onnx.mjs
import { execFileSync } from 'node:child_process';
import { copyFileSync, mkdirSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const ONNX_VERSION = '1.23.2';
const packageFolder = dirname(dirname(fileURLToPath(import.meta.url)));
const bin = join(packageFolder, 'node_modules', '.bin');
const work = mkdtempSync(join(tmpdir(), 'graft-onnx-'));
try {
  const run = (command, args) => execFileSync(command, args, { cwd: work, stdio: ['ignore', 'ignore', 'inherit'] });
  run('python3', ['-m', 'pip', 'download', '--quiet', '--no-deps', `onnx==${ONNX_VERSION}`]);
  const wheel = readdirSync(work).find((name) => name.endsWith('.whl'));
  run('python3', ['-m', 'zipfile', '-e', wheel, 'wheel']);
  mkdirSync(join(work, 'proto'));
  copyFileSync(join(work, 'wheel', 'onnx', 'onnx.proto'), join(work, 'proto', 'onnx.proto'));
  const plugin = { local: join(bin, 'protoc-gen-es'), out: 'out', opt: ['target=ts', 'import_extension=ts', 'erasable_syntax=true'] };
  writeFileSync(join(work, 'buf.yaml'), JSON.stringify({ version: 'v2', modules: [{ path: 'proto' }] }));
  writeFileSync(join(work, 'buf.gen.yaml'), JSON.stringify({ version: 'v2', plugins: [plugin] }));
  run(join(bin, 'buf'), ['generate']);
  copyFileSync(join(work, 'out', 'onnx_pb.ts'), join(packageFolder, 'src', 'onnx', 'onnx_pb.ts'));
} finally {
  rmSync(work, { recursive: true, force: true });
}
