import { cpSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { caseFolder, temporaryFolder } from './engine.fixture.ts';

/** dense-tiny with other weights: two bits of every bfloat16 mantissa, chosen by position. */
export const otherWeights = (): string =>
  changedCopy((bytes, start) => {
    for (let i = start; i < bytes.length; i += 2) bytes[i]! ^= ((Math.imul(i, 0x9e3779b1) >>> 28) & 3) << 4;
  });

/** dense-tiny with NaN in every place. */
export const damagedWeights = (): string => changedCopy((bytes, start) => void bytes.fill(0xff, start));

/** @param change gets the file, and where its tensors start. */
function changedCopy(change: (bytes: Buffer, start: number) => void): string {
  const folder = temporaryFolder();
  cpSync(caseFolder('dense-tiny'), folder, { recursive: true });
  const file = join(folder, 'model.safetensors');
  const bytes = readFileSync(file);
  change(bytes, 8 + Number(bytes.readBigUInt64LE(0)));
  writeFileSync(file, bytes);
  return folder;
}
