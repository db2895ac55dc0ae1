// What a user installs: every package is packed, checked and installed into empty folders with npm, pnpm and yarn.
import { execFile } from 'node:child_process';
import { cpSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, realpathSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join, posix } from 'node:path';
import { promisify } from 'node:util';
import { publint } from 'publint';
import { beforeAll, describe, expect, test } from 'vitest';
import { root } from '../sources.ts';

interface Result {
  code: number;
  output: string;
}

const folder = mkdtempSync(join(tmpdir(), 'graft-packages-'));
const tarballs = join(folder, 'tarballs');
const names = readdirSync(join(root, 'packages'));
const tarballOf = (name: string): string => join(tarballs, `graft-${name}-0.1.0.tgz`);
const specifiers = Object.fromEntries(names.map((name) => [`@graft/${name}`, `file:${tarballOf(name)}`]));
const { packageManager } = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8')) as { packageManager: string };

async function exec(cwd: string, command: string, ...args: string[]): Promise<Result> {
  try {
    const { stdout, stderr } = await promisify(execFile)(command, args, { cwd, env: { ...process.env, CI: 'true' } });
    return { code: 0, output: stdout + stderr };
  } catch (error) {
    const { code, stdout, stderr } = error as { code: number; stdout: string; stderr: string };
    return { code, output: stdout + stderr };
  }
}

/** An empty project with these keys in its package.json. */
function project(name: string, manifest: object): string {
  const path = join(folder, name);
  mkdirSync(path);
  writeFileSync(join(path, 'package.json'), JSON.stringify({ name, private: true, type: 'module', ...manifest }));
  return path;
}

beforeAll(async () => {
  expect(await exec(root, process.execPath, 'scripts/pack.mjs', tarballs)).toMatchObject({ code: 0 });
  return () => rmSync(folder, { recursive: true, force: true });
});

describe.concurrent.each(names)('the tarball of %s', (name) => {
  let files: Map<string, Buffer>;
  beforeAll(async () => {
    const at = join(folder, 'unpacked', name);
    mkdirSync(at, { recursive: true });
    expect(await exec(at, 'tar', 'xzf', tarballOf(name))).toMatchObject({ code: 0 });
    const entries = readdirSync(at, { recursive: true, withFileTypes: true }).filter((entry) => entry.isFile());
    files = new Map(
      entries.map((entry) => [
        posix.join(entry.parentPath, entry.name).slice(at.length + '/package/'.length),
        readFileSync(join(entry.parentPath, entry.name)),
      ]),
    );
  });

  test('says what it is, names versions that a registry knows, and holds no test or leftover', () => {
    expect([...files.keys()]).toEqual(expect.arrayContaining(['package.json', 'README.md', 'LICENSE', 'dist/index.js', 'dist/index.d.ts']));
    expect(JSON.parse(files.get('package.json')!.toString())).toMatchObject({
      name: `@graft/${name}`,
      description: expect.stringMatching(/\.$/) as string,
      license: 'Apache-2.0',
      engines: { node: expect.any(String) as string },
      publishConfig: { access: 'public' },
    });
    expect(files.get('package.json')!.toString()).not.toMatch(/"(workspace|catalog|link|file):|"private"/);
    expect([...files.keys()].filter((path) => /^(?!templates\/).*\.(test|test-d|fixture)\.|tsbuildinfo|node_modules/.test(path))).toEqual(
      [],
    );
    const built = [...files.keys()]
      .filter((path) => path.startsWith('dist/'))
      .map((path) => path.replace(/^dist\//, 'src/').replace(/(\.d\.ts|\.js)(\.map)?$/, '.ts'));
    expect(built.filter((path) => !files.has(path))).toEqual([]);
    const sources = [...files.keys()].filter((path) => path.startsWith('src/') && path.endsWith('.ts'));
    expect(sources.filter((path) => !built.includes(path))).toEqual([]);
  });

  test('has the sources of its maps', () => {
    const missing = [...files]
      .filter(([path]) => path.endsWith('.map'))
      .flatMap(([path, bytes]) => {
        const { sources } = JSON.parse(bytes.toString()) as { sources: string[] };
        return sources.map((source) => posix.join(dirname(path), source)).filter((source) => !files.has(source));
      });
    expect(missing).toEqual([]);
  });

  test('passes publint and attw', async () => {
    const { messages } = await publint({ pkgDir: join(folder, 'unpacked', name, 'package'), strict: true });
    expect(messages).toEqual([]);
    const attw = join(root, 'node_modules/@arethetypeswrong/cli/dist/index.js');
    expect(await exec(folder, process.execPath, attw, tarballOf(name), '--profile', 'esm-only')).toMatchObject({ code: 0 });
  });
});

/** Installs without scripts: none is needed, and that of onnxruntime-node fetches GPU libraries. */
const managers: [name: string, command: string[], overrides: object][] = [
  ['npm', ['npm', 'install', '--ignore-scripts', '--no-audit', '--no-fund', '--prefer-offline'], { overrides: {} }],
  ['pnpm', ['npx', '--yes', packageManager, 'install', '--ignore-scripts', '--prefer-offline'], { pnpm: { overrides: specifiers } }],
];

/** What `graft new` writes, with the flags of the architecture and platform that it brings. */
const kinds = [
  { kind: 'plugin', architecture: ['Llama4ForCausalLM'], platform: [] },
  { kind: 'backend', architecture: ['Llama4ForCausalLM'], platform: ['--platform', 'my-backend'] },
  { kind: 'model', architecture: ['MyModelForCausalLM'], platform: [] },
];

/** Those of docs/tutorial.md. */
const commandsOfPage = /^```\n(npm init[\s\S]*?)\n```/m.exec(readFileSync(join(root, 'docs/tutorial.md'), 'utf8'))![1]!.split('\n');

interface Step {
  text: string;
  seconds: number;
}
const stepLine = ({ text, seconds }: Step): string => `${seconds.toFixed(1).padStart(6)} s  ${text}`;

/** Runs a command of the tutorial and notes its seconds. */
async function step(steps: Step[], cwd: string, text: string, ...command: [string, ...string[]]): Promise<Result> {
  const startMs = performance.now();
  const result = await exec(cwd, ...command);
  steps.push({ text, seconds: (performance.now() - startMs) / 1000 });
  return result;
}

describe.each(managers)('%s', (name, [command, ...args], overrides) => {
  let app: string;
  const installing: Step[] = [];
  const graft = (...flags: string[]) => exec(app, process.execPath, 'node_modules/@graft/server/bin/graft.mjs', ...flags);
  beforeAll(async () => {
    app = project(`app-${name}`, { dependencies: specifiers, ...overrides });
    expect(await step(installing, app, `${name} install --ignore-scripts FOLDER/*.tgz`, command!, ...args)).toMatchObject({ code: 0 });
  });

  test('installs one copy of each, and graft serves with its default plugins', async () => {
    const { code, output } = await graft('explain', 'Llama4ForCausalLM');
    expect(output).toContain('is served by Llama4ForCausalLM of plugin "core-model"');
    expect(code).toBe(0);
  });

  test('says how to run a plugin in TypeScript where neither tsx nor Node reads it', async () => {
    writeFileSync(
      join(app, 'typed.ts'),
      `import { definePlugin } from '@graft/registry';\nexport default definePlugin({ name: 'typed' as string });\n`,
    );
    const { code, output } = await graft('explain', 'Llama4ForCausalLM', '--plugins', './typed.ts');
    const isRead = Boolean((process.features as { typescript?: unknown }).typescript);
    expect(output.includes('GRAFT_TYPESCRIPT_NOT_READ')).toBe(!isRead);
    expect(code).toBe(2); // read or not: there is no platform without cpu
  });

  test('has graft-manifest, which names TypeScript where it is missing, and writes a manifest with it', async () => {
    const [upstream, registry] = [join(app, 'upstream'), join(app, 'node_modules/@graft/registry')];
    mkdirSync(join(upstream, 'src'), { recursive: true });
    writeFileSync(join(upstream, 'package.json'), '{ "name": "upstream", "version": "1.2.3" }');
    writeFileSync(join(upstream, 'src/norm.ts'), 'export class Norm { scale: number = 1; }');
    const write = () => exec(app, process.execPath, join(registry, 'bin/graft-manifest.mjs'), 'upstream');
    const missing = await write();
    expect(missing.output).toContain('npm install --save-dev typescript');
    expect(missing.code).toBe(2);
    symlinkSync(realpathSync(join(root, 'node_modules/typescript')), join(dirname(dirname(realpathSync(registry))), 'typescript'));
    expect(await write()).toEqual({ code: 0, output: '' });
    expect(readFileSync(join(upstream, 'src/manifest.ts'), 'utf8')).toContain('module: "upstream/src/norm.ts"');
  });

  test('finds a plugin that brings its own copy of the registry, and names both', async () => {
    const plugin = join(app, 'plugin');
    const copy = join(plugin, 'node_modules/@graft/registry');
    const installed = realpathSync(join(app, 'node_modules/@graft/registry'));
    cpSync(installed, copy, { recursive: true, filter: (path) => !path.endsWith('node_modules') });
    symlinkSync(dirname(dirname(installed)), join(copy, 'node_modules')); // where its dependencies are, under either manager
    writeFileSync(
      join(plugin, 'index.js'),
      `import { definePlugin } from '@graft/registry';\nexport default definePlugin({ name: 'mine' });\n`,
    );
    const { code, output } = await graft('explain', 'Llama4ForCausalLM', '--plugins', './plugin/index.js');
    expect(output).toContain('GRAFT_TWO_COPIES');
    expect(output).toContain(`0.1.0 in file://${copy}/dist/index.js`);
    expect(code).toBe(2);
  });

  /** Makes a project and works in it, as docs/tutorial.md does. */
  async function work({ kind, architecture, platform }: (typeof kinds)[number]): Promise<void> {
    const steps: Step[] = [];
    const bin = (flags: readonly string[]) => ['node_modules/@graft/server/bin/graft.mjs', ...flags];
    const made = join(app, `my-${kind}`);
    const run = (cwd: string, text: string, ...command: [string, ...string[]]) => step(steps, cwd, text, ...command);
    expect(await run(app, `npx graft new ${kind} my-${kind}`, process.execPath, ...bin(['new', kind, `my-${kind}`]))).toMatchObject({
      code: 0,
    });
    // The project's own .npmrc turns scripts off.
    const install = args.filter((flag) => flag !== '--ignore-scripts');
    expect(await run(made, `cd my-${kind} && ${name} install`, command!, ...install)).toMatchObject({ code: 0 });
    const tested = await run(made, `${name} test`, command!, ...args.slice(0, args.indexOf('install')), 'test');
    expect(tested.output).toMatch(/# pass [1-9]/);
    expect(tested).toMatchObject({ code: 0 });
    for (const [flags, words] of [
      [['explain', ...architecture, ...platform], `[scoped] my-${kind} (subclass`],
      [['verify', ...architecture, ...platform], 'EQUAL'],
      [['graphs', '--model', 'small', ...platform], 'decoder-layer'],
      [['contract', `my-${kind}`, '--against', tarballOf('core-model')], 'no difference'],
    ] as const) {
      const { code, output } = await run(made, `npx graft ${flags.join(' ').replace(tarballs, 'FOLDER')}`, process.execPath, ...bin(flags));
      expect(output).toContain(words);
      expect(code).toBe(0);
    }
    const upstream = kind === 'model' ? 'MyModelAttention' : 'RmsNorm';
    expect((await exec(made, process.execPath, ...bin(['contract', upstream]))).output).toMatch(/\.forward\(\w+(, \w+)*\)',/);
    expect(await exec(made, process.execPath, 'node_modules/typescript/bin/tsc')).toMatchObject({ code: 0 });
    expect(readdirSync(join(made, 'dist'))).toContain('plugin.js');
    const sources = readdirSync(join(made, 'src')).filter((file) => !/\.test\.|^manifest\./.test(file));
    const lines = sources.reduce(
      (sum, file) =>
        sum +
        readFileSync(join(made, 'src', file), 'utf8')
          .trimEnd()
          .split('\n').length,
      0,
    );
    const tutorial = [installing[0]!, ...steps];
    console.log(
      `From nothing to a verified ${kind} with ${name}: ${tutorial.length} commands, ${lines} lines in src\n${tutorial.map(stepLine).join('\n')}`,
    );
    if (kind === 'plugin' && name === 'npm')
      expect(['npm init -y', ...tutorial.flatMap(({ text }) => text.split(' && '))]).toEqual(commandsOfPage);
  }

  test('graft new plugin writes a project that passes its tests and that graft works in', () => work(kinds[0]!));

  test.concurrent.each(kinds.slice(1))('graft new $kind writes a project that passes its tests and that graft works in', work);
});

test('the tutorial has ten commands at most', () => {
  expect(commandsOfPage.length).toBeLessThanOrEqual(10);
});

test('yarn installs the tarballs, and graft serves with its default plugins', async () => {
  const app = project('app-yarn', { dependencies: specifiers, resolutions: specifiers });
  writeFileSync(join(app, 'yarn.lock'), ''); // a project of its own, whatever is above it
  writeFileSync(join(app, '.yarnrc.yml'), 'nodeLinker: node-modules\nenableScripts: false\nenableTelemetry: false\n');
  const { output: registry } = await exec(app, 'npm', 'config', 'get', 'registry');
  const yarn = (...args: string[]) => exec(app, 'npx', '--yes', '@yarnpkg/cli-dist@4.18.1', ...args);
  process.env['YARN_NPM_REGISTRY_SERVER'] = registry.trim();
  expect(await yarn('install', '--no-immutable')).toMatchObject({ code: 0 });
  expect(await yarn('graft', 'new', 'plugin', 'my-plugin')).toMatchObject({ code: 0 });
  expect(JSON.parse(readFileSync(join(app, 'my-plugin/package.json'), 'utf8'))).toMatchObject({ resolutions: specifiers });
  const { code, output } = await yarn('graft', 'explain', 'Llama4ForCausalLM');
  expect(output).toContain('is served by Llama4ForCausalLM of plugin "core-model"');
  expect(code).toBe(0);
});
