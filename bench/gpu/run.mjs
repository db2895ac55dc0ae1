// In a bundle: prints the report of this machine.
import { readFileSync } from 'node:fs';
import { cpus, totalmem } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { measure } from './measure.mjs';

const usage = `./run.sh [--platform vulkan|cuda] [--layers 16] [--vocabulary 128256] [--seconds 120] [--forms Q4_0,Q4_K,F16]
  --seconds  for each form; a slow device gets fewer layers
  cuda needs ggml's library, which is too large for the bundle: put @node-llama-cpp/linux-x64-cuda into a folder that NODE_PATH names`;
const here = join(import.meta.dirname, '../..');
const { values } = parseArgs({
  options: {
    platform: { type: 'string', default: 'vulkan' },
    layers: { type: 'string', default: '16' },
    vocabulary: { type: 'string', default: '128256' },
    seconds: { type: 'string', default: '120' },
    forms: { type: 'string', default: 'Q4_0,Q4_K,F16' },
    help: { type: 'boolean', default: false },
  },
});
if (values.help) {
  console.log(usage);
  process.exit(0);
}
const { commit } = JSON.parse(readFileSync(join(here, 'package.json'), 'utf8'));
try {
  const lines = await measure({
    platform: values.platform,
    app: here,
    cases: join(here, 'cases'),
    layers: Number(values.layers),
    vocabulary: Number(values.vocabulary),
    secondsPerType: Number(values.seconds),
    forms: values.forms.split(','),
    say: (text) => process.stderr.write(`${text}\n`),
  });
  const machine = `${cpus()[0]?.model.trim()}, ${cpus().length} cores, ${Math.round(totalmem() / 2 ** 30)} GiB`;
  console.log(`${new Date().toISOString().slice(0, 16)} UTC, Graft ${commit}; ${machine}; Node ${process.versions.node}\n`);
  console.log(lines.join('\n'));
} catch (error) {
  console.error(String(error?.message ?? error));
  process.exitCode = 1;
}
