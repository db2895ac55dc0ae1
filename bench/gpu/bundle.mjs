// `bench -- gpu --bundle DIR`: Node, Graft as built, ggml's libraries for the CPU and Vulkan, and small cases, in one archive with a script. No network is
// needed where it runs. Kept below 60 MiB by what is left out: CUDA's library (124 MiB compressed), kernels of processors that no machine with a GPU has,
// types, maps and sources.
import { execFileSync } from 'node:child_process';
import {
  chmodSync,
  copyFileSync,
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  realpathSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { basename, dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { familyCases } from './measure.mjs';

const root = dirname(dirname(dirname(fileURLToPath(import.meta.url))));
const limitBytes = 60 * 2 ** 20;
const cpuLibraries = /^libggml(-base|\.v.*|-cpu-(x64|haswell|skylakex|icelake|sapphirerapids|zen4))?\.so$/;
/** Packages that a run without images and TypeScript does not load. */
const leftOut = new Set(['sharp', 'typescript']);
const loaders = ['/usr/lib/x86_64-linux-gnu', '/usr/lib64', '/usr/lib'].map((folder) => join(folder, 'libvulkan.so.1'));

export function bundle(target) {
  const work = mkdtempSync(join(tmpdir(), 'graft-bundle-'));
  try {
    copyNode(join(work, 'node'));
    for (const [name, folder] of packagesOf(['@graft/engine', '@graft/gpu'])) copyPackage(name, folder, join(work, 'node_modules', name));
    copyKoffi(work);
    copyGgml(work);
    for (const name of familyCases) {
      const files = ['config.json', 'model.safetensors', 'expected.safetensors'];
      for (const file of files) copy(join(root, 'tests/parity/cases', name, file), join(work, 'cases', name, file));
    }
    for (const file of ['gpu/measure.mjs', 'gpu/run.mjs', 'random-llama.mjs']) copy(join(root, 'bench', file), join(work, 'bench', file));
    writeFileSync(join(work, 'package.json'), JSON.stringify({ name: 'graft-gpu', private: true, type: 'module', commit: commit() }));
    mkdirSync(target, { recursive: true });
    execFileSync('tar', ['--owner=0', '--group=0', '-czf', join(target, 'graft-gpu.tar.gz'), '-C', work, '.'], {
      env: { ...process.env, GZIP: '-9' },
    });
    copyFileSync(join(root, 'bench/gpu/run.sh'), join(target, 'run.sh'));
    chmodSync(join(target, 'run.sh'), 0o755);
  } finally {
    rmSync(work, { recursive: true });
  }
  const bytes = readdirSync(target).reduce((sum, file) => sum + statSync(join(target, file)).size, 0);
  const size = `${(bytes / 2 ** 20).toFixed(1)} MiB`;
  if (bytes > limitBytes) throw new Error(`${target} has ${size}; the limit is 60 MiB. Take a new folder, or a smaller Node.`);
  return [`${target}: ${size}. Copy it to the machine and run ./run.sh there; ./run.sh --help lists the options.`];
}

function copyNode(to) {
  try {
    execFileSync('strip', ['-o', to, process.execPath], { stdio: 'ignore' });
  } catch {
    copyFileSync(process.execPath, to); // no binutils here: some MiB more
  }
  chmodSync(to, 0o755);
}

/** These packages and all that they depend on, each once. */
function packagesOf(names) {
  const found = new Map();
  const visit = (name, from) => {
    if (leftOut.has(name)) return;
    const folder = folderOf(name, from);
    const known = found.get(name);
    if (known === folder) return;
    if (known !== undefined) throw new Error(`${name} is there twice: ${known} and ${folder}.`);
    found.set(name, folder);
    const { dependencies, peerDependencies } = JSON.parse(readFileSync(join(folder, 'package.json'), 'utf8'));
    for (const each of Object.keys({ ...dependencies, ...peerDependencies })) visit(each, folder);
  };
  for (const name of names) visit(name, root);
  return found;
}

function folderOf(name, from) {
  for (let at = from; ; at = dirname(at)) {
    const folder = join(at, 'node_modules', name);
    if (existsSync(folder)) return realpathSync(folder);
    if (at === dirname(at)) throw new Error(`${name}, which ${from} needs, is not installed: run npm start once.`);
  }
}

function copyPackage(name, folder, to) {
  const isOurs = name.startsWith('@graft/');
  if (isOurs && !existsSync(join(folder, 'dist'))) throw new Error(`${name} is not built: run node scripts/setup.mjs first.`);
  const wanted = (path) =>
    !/\.(d\.[cm]?ts|map|md|tsbuildinfo|cc?|hh?|S|asm)$|\/(node_modules|vendor|doc|test|tests)$/.test(path.slice(folder.length));
  if (!isOurs) return cpSync(folder, to, { recursive: true, filter: (path) => path === folder || wanted(path) });
  copy(join(folder, 'package.json'), join(to, 'package.json'));
  cpSync(join(folder, 'dist'), join(to, 'dist'), { recursive: true, filter: wanted });
}

/** koffi's native part is an optional package. */
function copyKoffi(work) {
  const name = '@koromix/koffi-linux-x64';
  const folder = folderOf(name, folderOf('koffi', folderOf('@graft/ggml', root)));
  for (const file of ['package.json', 'index.js', 'linux_x64']) {
    if (existsSync(join(folder, file))) cpSync(join(folder, file), join(work, 'node_modules', name, file), { recursive: true });
  }
}

/** The CPU's libraries, Vulkan's, and its loader, which a machine may lack. */
function copyGgml(work) {
  const version = JSON.parse(readFileSync(join(root, 'packages/ggml/package.json'), 'utf8')).optionalDependencies[
    '@node-llama-cpp/linux-x64'
  ];
  for (const [build, wanted] of [
    ['linux-x64', cpuLibraries],
    ['linux-x64-vulkan', /^libggml-vulkan\.so$/],
  ]) {
    const scratch = mkdtempSync(join(tmpdir(), 'graft-ggml-'));
    const name = `@node-llama-cpp/${build}`;
    const archive = execFileSync('npm', ['pack', '--silent', `${name}@${version}`], { cwd: scratch, encoding: 'utf8' }).trim();
    execFileSync('tar', ['-xzf', archive], { cwd: scratch });
    const to = join(work, 'node_modules', name);
    cpSync(join(scratch, 'package/dist'), join(to, 'dist'), { recursive: true });
    copy(join(scratch, 'package/package.json'), join(to, 'package.json'));
    for (const file of readdirSync(join(scratch, 'package/bins', build))) {
      if (wanted.test(file)) copy(join(scratch, 'package/bins', build, file), join(to, 'bins', build, file));
    }
    rmSync(scratch, { recursive: true });
  }
  const loader = loaders.find((path) => existsSync(path));
  if (loader !== undefined) copy(realpathSync(loader), join(work, 'lib', basename(loader)));
}

function copy(from, to) {
  mkdirSync(dirname(to), { recursive: true });
  copyFileSync(from, to);
}

function commit() {
  try {
    return execFileSync('git', ['rev-parse', '--short', 'HEAD'], {
      cwd: root,
      encoding: 'utf8',
      stdio: ['ignore', 'pipe', 'ignore'],
    }).trim();
  } catch {
    return 'unknown';
  }
}
