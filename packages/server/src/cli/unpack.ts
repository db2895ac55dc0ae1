import { existsSync, mkdtempSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { messageOf } from '@graft/common';
import { extract } from 'tar';
import { UsageError } from './flags.ts';

/**
 * Calls `use` with a package's folder: the given one, or the contents of a `.tgz` of npm pack, in a folder that is removed afterwards.
 * @throws UsageError for anything else.
 */
export async function withPackageFolder<Result>(path: string, use: (folder: string) => Promise<Result>): Promise<Result> {
  if (!existsSync(path))
    throw new UsageError(`"${path}" does not exist. Name a folder of an upstream package, or a .tgz of npm pack.`, '--against');
  if (statSync(path).isDirectory()) return await use(path);
  const folder = mkdtempSync(join(tmpdir(), 'graft-against-'));
  try {
    try {
      await extract({ file: path, cwd: folder, strip: 1, strict: true });
    } catch (cause) {
      throw new UsageError(
        `"${path}" is not a tarball of a package: ${messageOf(cause)}. Name a folder, or a .tgz of npm pack.`,
        '--against',
      );
    }
    return await use(folder);
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}
