// All the set-up that `npm start` and `npm test` need, on a machine that has only Node and npm. No imports from npm: nothing is installed
// when this runs first. Each step says what it did and how long it took; a step whose inputs are unchanged is skipped.
//   node scripts/setup.mjs [--install-only] [--force]
import { spawn } from 'node:child_process';
import { createHash } from 'node:crypto';
import { closeSync, existsSync, mkdirSync, openSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync, writeSync } from 'node:fs';
import { dirname, join, relative } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';

const root = dirname(dirname(fileURLToPath(import.meta.url)));
const modules = join(root, 'node_modules');
const stampFile = join(modules, '.graft-setup.json'); // goes away with node_modules, as it should
const lockFile = join(root, '.cache', 'setup.lock');
const leastNode = [20, 19];
const lockWaitMs = 15 * 60_000;

/** A failure that is explained in full; anything else keeps its stack. */
class SetupError extends Error {}

const say = (text) => process.stdout.write(text);
const readText = (path) => readFileSync(path, 'utf8');
const readJson = (path) => JSON.parse(readText(path));
const hashOf = (value) => createHash('sha256').update(JSON.stringify(value)).digest('hex');
const seconds = (startMs) => `${((performance.now() - startMs) / 1000).toFixed(1)} s`;

function checkNode() {
  const [major, minor] = process.versions.node.split('.').map(Number);
  if (major > leastNode[0] || (major === leastNode[0] && minor >= leastNode[1])) return;
  throw new SetupError(
    `Graft needs Node ${leastNode.join('.')} or newer; this is Node ${process.versions.node} (${process.execPath}).\n` +
      '  fix: install a current Node (20 or 22 LTS), or put it first in PATH, and run the same command again.',
  );
}

function readStamps() {
  try {
    return readJson(stampFile);
  } catch {
    return {}; // none yet, or half a file: do everything
  }
}

function writeStamp(name, value) {
  mkdirSync(modules, { recursive: true });
  writeFileSync(stampFile, JSON.stringify({ ...readStamps(), [name]: value }));
}

/** The folders of the workspace, the root first. */
function workspaceFolders() {
  const children = ['packages', 'examples'].flatMap((group) =>
    existsSync(join(root, group)) ? readdirSync(join(root, group)).map((name) => join(root, group, name)) : [],
  );
  return [root, ...children.filter((folder) => existsSync(join(folder, 'package.json')))].sort();
}

const dependencyKeys = [
  'name',
  'version',
  'bin',
  'packageManager',
  'dependencies',
  'devDependencies',
  'optionalDependencies',
  'peerDependencies',
  'pnpm',
];

/** What an install depends on: the lock file, the workspace, every package's dependencies, Node and the machine. */
function installInputs() {
  const manifests = workspaceFolders().map((folder) => {
    const manifest = readJson(join(folder, 'package.json'));
    return [relative(root, folder), dependencyKeys.map((key) => manifest[key] ?? null)];
  });
  const texts = ['pnpm-lock.yaml', 'pnpm-workspace.yaml'].map((name) => readText(join(root, name)));
  return hashOf([process.version, process.platform, process.arch, texts, manifests]);
}

function modulesAreThere() {
  return workspaceFolders().every((folder) => {
    const { dependencies, devDependencies } = readJson(join(folder, 'package.json'));
    const names = Object.keys({ ...dependencies, ...devDependencies });
    return names.every((name) => existsSync(join(folder, 'node_modules', name)));
  });
}

/** Runs a command with its output kept; resolves to its exit code (null when it could not be started) and output. */
function run(command, args, env = {}) {
  return new Promise((resolve) => {
    const child = spawn(command, args, {
      cwd: root,
      env: { ...process.env, ...env },
      stdio: ['ignore', 'pipe', 'pipe'],
      shell: process.platform === 'win32',
    });
    const chunks = [];
    child.stdout.on('data', (chunk) => chunks.push(chunk));
    child.stderr.on('data', (chunk) => chunks.push(chunk));
    child.on('error', (error) => resolve({ code: null, output: error.message }));
    child.on('close', (code) => resolve({ code, output: Buffer.concat(chunks).toString('utf8') }));
  });
}

/** The end of a command's output, without the frames of npm's own stack. */
const lastLines = (text, count) => {
  const lines = text
    .trimEnd()
    .split('\n')
    .filter((line) => !/^npm error\s+at /.test(line));
  return lines.slice(-count).join('\n');
};

const quietNpm = {
  CI: 'true', // no questions, no spinners
  NO_UPDATE_NOTIFIER: '1',
  ONNXRUNTIME_NODE_INSTALL: 'skip', // its post-install script fetches GPU libraries; pnpm does not run it, this is for whoever does
  npm_config_update_notifier: 'false',
  npm_config_loglevel: 'error',
  npm_config_fund: 'false',
  npm_config_audit: 'false',
  npm_config_fetch_retry_mintimeout: '1000', // an absent network is told in seconds
  npm_config_fetch_retry_maxtimeout: '5000',
};

async function install() {
  const pnpm = readJson(join(root, 'package.json')).packageManager; // "pnpm@10.34.9"
  const args = ['--yes', '--prefer-offline', pnpm, 'install', '--frozen-lockfile', '--prefer-offline', '--reporter=append-only'];
  const { code, output } = await run('npx', [...args, '--config.confirm-modules-purge=false'], quietNpm);
  if (code !== 0)
    throw new SetupError(`The packages could not be installed.\n${lastLines(output, 15)}\n  fix: ${adviceFor(code, output, pnpm)}`);
}

function adviceFor(code, output, pnpm) {
  if (code === null) return '`npx` was not found: it comes with npm, which comes with Node. Put both in PATH.';
  if (/OUTDATED_LOCKFILE|LOCKFILE_CONFIG_MISMATCH/.test(output)) {
    return `pnpm-lock.yaml does not fit the package.json files: run \`npx --yes ${pnpm} install\` and commit the lock file.`;
  }
  if (/ENOTFOUND|EAI_AGAIN|ECONNREFUSED|ECONNRESET|ETIMEDOUT|ENETUNREACH|ERR_SOCKET|ENOTCACHED|network/i.test(output)) {
    return 'the npm registry was not reached. The first start needs the network: check it, or point `npm config set registry` at a mirror, and run the same command again.';
  }
  if (/ENOSPC/.test(output)) return 'the disk is full; about 1 GB is needed.';
  if (/EACCES|EPERM/.test(output)) return 'a folder is not writable: see the path above.';
  return 'see the lines above; deleting node_modules and running the same command again starts afresh.';
}

function filesUnder(folder) {
  if (!existsSync(folder)) return [];
  return readdirSync(folder, { withFileTypes: true, recursive: true })
    .filter((entry) => entry.isFile())
    .map((entry) => join(entry.parentPath ?? entry.path, entry.name));
}

/** The packages that `tsc -b` builds. */
const builtFolders = () => readJson(join(root, 'tsconfig.json')).references.map(({ path }) => join(root, path));

/** What a build depends on: path, size and time of every source, the settings, and the compiler (through the install). */
function buildInputs(installed) {
  const sources = builtFolders().flatMap((folder) => filesUnder(join(folder, 'src')).filter((path) => path.endsWith('.ts')));
  const settings = [...builtFolders(), root].map((folder) => join(folder, 'tsconfig.json'));
  const facts = [...sources, ...settings, join(root, 'tsconfig.base.json')].sort().map((path) => {
    const { mtimeMs, size } = statSync(path);
    return [relative(root, path), mtimeMs, size];
  });
  return hashOf([installed, facts]);
}

const buildIsThere = () => builtFolders().every((folder) => existsSync(join(folder, 'dist', '.tsbuildinfo')));

async function build() {
  const { code, output } = await run(process.execPath, [join(modules, 'typescript', 'bin', 'tsc'), '-b']);
  if (code !== 0)
    throw new SetupError(
      `The sources do not compile (\`tsc -b\`).\n${lastLines(output, 40)}\n  fix: the errors above are in the sources; \`npm run build\` shows them all.`,
    );
}

function isAlive(pid) {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return error.code === 'EPERM';
  }
}

/** True when the process that made the lock is gone, or never got to write its number. */
function lockIsStale() {
  try {
    const pid = Number(readText(lockFile));
    return pid > 0 ? !isAlive(pid) : Date.now() - statSync(lockFile).mtimeMs > 5000;
  } catch {
    return false; // released meanwhile
  }
}

/** Two set-ups at once would write the same node_modules: the second one waits. */
async function lock() {
  mkdirSync(dirname(lockFile), { recursive: true });
  let told = false;
  for (const deadline = Date.now() + lockWaitMs; Date.now() < deadline; await sleep(200)) {
    try {
      const file = openSync(lockFile, 'wx');
      writeSync(file, String(process.pid));
      closeSync(file);
      process.on('exit', () => rmSync(lockFile, { force: true }));
      return;
    } catch (error) {
      if (error.code !== 'EEXIST') throw error;
      if (lockIsStale()) rmSync(lockFile, { force: true });
      else if (!told) say('setup: another set-up is running here; waiting for it\n');
      told = true;
    }
  }
  throw new SetupError(`Another set-up still holds ${lockFile}.\n  fix: if none is running, delete that file.`);
}

/** Runs one step and says on one line what it did and how long it took. */
async function step(text, work) {
  const startMs = performance.now();
  say(`setup: ${text} ... `);
  try {
    await work();
  } catch (error) {
    say('failed\n');
    throw error;
  }
  say(`${seconds(startMs)}\n`);
}

async function main() {
  const startMs = performance.now();
  const installOnly = process.argv.includes('--install-only');
  const force = process.argv.includes('--force');
  checkNode();
  const installIsCurrent = (inputs) => !force && readStamps().install === inputs && modulesAreThere();
  const buildIsCurrent = (inputs) => installOnly || (!force && readStamps().build === inputs && buildIsThere());

  const installed = installInputs();
  if (installIsCurrent(installed) && buildIsCurrent(buildInputs(installed))) {
    say(`setup: Node ${process.versions.node}, packages${installOnly ? '' : ' and build'} are current (${seconds(startMs)})\n`);
    return;
  }
  await lock(); // whoever held it may have done the work: ask again
  if (!installIsCurrent(installed)) {
    await step(`installing packages${existsSync(modules) ? '' : ' (the first time takes about a minute)'}`, install);
    writeStamp('install', installed);
  }
  const built = buildInputs(installed); // before the build, so that an edit during it counts
  if (!buildIsCurrent(built)) {
    await step('building packages', build);
    writeStamp('build', built);
  }
}

try {
  await main();
} catch (error) {
  process.stderr.write(`\n${error instanceof SetupError ? error.message : error.stack}\n`);
  process.exitCode = 1;
}
