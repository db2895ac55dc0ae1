// A GPU (or ggml on the CPU): the device, parity of each family and each type of weights, and the speed of Llama-3.2-1B's shape through the engine.
//   npm run bench -- gpu [--platform vulkan|cuda|metal|cpu] [--layers 16] [--vocabulary 128256] [--seconds 120] [--forms Q4_0,Q4_K,F16]
//   npm run bench -- gpu --bundle DIR      a folder that does the same on a machine with a GPU and no network
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { bundle } from './gpu/bundle.mjs';
import { measure } from './gpu/measure.mjs';

const root = dirname(dirname(fileURLToPath(import.meta.url)));

export async function main(args) {
  const { values } = parseArgs({
    args,
    options: {
      platform: { type: 'string', default: 'vulkan' },
      layers: { type: 'string', default: '16' },
      vocabulary: { type: 'string', default: '128256' },
      seconds: { type: 'string', default: '120' },
      forms: { type: 'string', default: 'Q4_0,Q4_K,F16' },
      bundle: { type: 'string' },
    },
  });
  if (values.bundle !== undefined) return bundle(values.bundle);
  return measure({
    platform: values.platform,
    app: root,
    cases: join(root, 'tests/parity/cases'),
    layers: Number(values.layers),
    vocabulary: Number(values.vocabulary),
    secondsPerType: Number(values.seconds),
    forms: values.forms.split(','),
    say: (text) => process.stderr.write(`${text}\n`),
  });
}
