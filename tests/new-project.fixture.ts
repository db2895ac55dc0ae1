import { mkdtempSync, rmSync, symlinkSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll } from 'vitest';
import { writeProject } from '../packages/server/src/cli/new.ts';
import { root } from './sources.ts';

/** The folder of what `graft new KIND my-KIND` writes, with the packages of this workspace. It goes when the tests of the file have ended. */
export function newProject(kind: 'plugin' | 'backend' | 'model'): string {
  const parent = mkdtempSync(join(tmpdir(), 'graft-new-'));
  afterAll(() => rmSync(parent, { recursive: true }));
  symlinkSync(join(root, 'node_modules'), join(parent, 'node_modules'));
  const folder = join(parent, `my-${kind}`);
  writeProject(kind, `my-${kind}`, folder);
  return folder;
}
