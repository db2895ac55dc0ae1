// Packs every package of the workspace: `npm run pack -- FOLDER` leaves one tarball each in FOLDER.
// `node scripts/pack.mjs --prepack` prepares the package in this folder, for `npm pack` there, with a build afresh.
// Either way nothing of a source that is gone is packed.
import { execFileSync } from 'node:child_process';
import { copyFileSync, existsSync, mkdirSync, readdirSync, rmSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';

const root = dirname(dirname(fileURLToPath(import.meta.url)));
const compiler = createRequire(import.meta.url).resolve('typescript/bin/tsc');

/** Removes what was built of a source that is gone. */
function prune(folder) {
  const dist = join(folder, 'dist');
  if (!existsSync(dist)) return;
  for (const file of readdirSync(dist, { recursive: true })) {
    const source = /^(.*?)(\.d\.ts|\.js)(\.map)?$/.exec(file)?.[1];
    if (source !== undefined && !existsSync(join(folder, 'src', `${source}.ts`))) rmSync(join(dist, file));
  }
}

function prepare(folders, cwd, afresh) {
  for (const folder of folders) {
    if (afresh) rmSync(join(folder, 'dist'), { recursive: true, force: true });
    else prune(folder);
    copyFileSync(join(root, 'LICENSE'), join(folder, 'LICENSE'));
  }
  execFileSync(process.execPath, [compiler, '-b'], { cwd, stdio: 'inherit' });
}

const target = process.argv[2];
if (target === undefined) {
  console.error('usage: npm run pack -- FOLDER');
  process.exitCode = 2;
} else if (target === '--prepack') {
  prepare([process.cwd()], process.cwd(), true);
} else {
  const folders = readdirSync(join(root, 'packages')).map((name) => join(root, 'packages', name));
  prepare(folders, root, false);
  mkdirSync(target, { recursive: true });
  const args = ['pack', '--ignore-scripts', '--silent', '--pack-destination', resolve(target)];
  for (const cwd of folders) execFileSync('npm', args, { cwd, stdio: 'inherit', shell: process.platform === 'win32' });
}
