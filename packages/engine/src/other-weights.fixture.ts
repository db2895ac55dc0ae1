import { cpSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { caseFolder, temporaryFolder } from './engine.fixture.ts';

/** dense-tiny with other weights: two bits of every bfloat16 mantissa, chosen by position. */
export function otherWeights(): string {
  const folder = temporaryFolder();
  cpSync(caseFolder('dense-tiny'), folder, { recursive: true });
  const file = join(folder, 'model.safetensors');
  const bytes = readFileSync(file);
  for (let i = 8 + Number(bytes.readBigUInt64LE(0)); i < bytes.length; i += 2) bytes[i]! ^= ((Math.imul(i, 0x9e3779b1) >>> 28) & 3) << 4;
  writeFileSync(file, bytes);
  return folder;
}
