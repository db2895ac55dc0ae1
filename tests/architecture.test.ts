// What a rule forbids, a test forbids: the import table is read from docs/architecture.md, so page and code cannot disagree.
import { isBuiltin } from 'node:module';
import { dirname, join, relative } from 'node:path';
import { describe, expect, test } from 'vitest';
import {
  importsOf,
  type Manifest,
  type Package,
  packageOf,
  packagesIn,
  placesOfAccess,
  quotedNames,
  readManifest,
  readText,
  root,
  type Source,
  sourcesUnder,
  tableRows,
} from './sources.ts';

/** Files over 400 lines, each with the reason why it holds one idea all the same. */
const longFiles: Record<string, string> = {
  'packages/ggml/src/graph-builder.ts': 'one method for each function of ggml, with what the function asserts',
  'packages/core-model/src/manifest.ts': 'generated from the classes that overrides may rely on',
  'packages/onnxruntime/src/onnx/onnx_pb.ts': 'generated from onnx.proto',
};

const plugins = ['cpu', 'gpu', 'llama4-hpu'];

interface Rule {
  name: string;
  /** What its sources may import, besides `common`. */
  imports: string[];
  /** What its package.json may list without importing it. */
  lists: string[];
}

/** A row of the table: `| name | imports; lists ... | why |`. */
function readRule([name, mayImport]: string[]): Rule {
  const [imports, lists] = mayImport!.split('; lists');
  return { name: quotedNames(name!)[0]!, imports: quotedNames(imports!), lists: quotedNames(lists ?? '') };
}

const rules = new Map(
  tableRows(readText('docs/architecture.md'), 'Who may import whom')
    .map(readRule)
    .map((rule) => [rule.name, rule]),
);
const packages = packagesIn('packages');
const examples = packagesIn('examples');
const rootManifest = readManifest('package.json');
const exportsOf = new Map(packages.map(({ manifest }) => [manifest.name, Object.keys(manifest.exports ?? {})]));
const inPackages = packages.flatMap(({ folder }) => sourcesUnder(`${folder}/src`));

const graftNames = (names: string[]): string[] =>
  names.filter((name) => name.startsWith('@graft/')).map((name) => name.slice('@graft/'.length));

test('the import table has a row for every package and no other', () => {
  expect([...rules.keys()].sort()).toEqual(packages.map(({ name }) => name).sort());
});

describe.each(packages)('package $name', (pack) => {
  const rule = rules.get(pack.name) ?? { name: pack.name, imports: [], lists: [] };

  test('depends only on the packages that the table allows', () => {
    const allowed = new Set(['common', ...rule.imports, ...rule.lists]);
    const dependencies = graftNames(shippedNames(pack.manifest));
    expect(dependencies.filter((name) => !allowed.has(name))).toEqual([]);
  });

  test('imports only what its package.json lists, by exported names', () => {
    const allowed = new Set(['common', ...rule.imports].map((name) => `@graft/${name}`));
    expect(faultsIn(pack, sourcesUnder(`${pack.folder}/src`), (name) => allowed.has(name))).toEqual([]);
  });
});

test('packages name ranges that a registry knows, and all the same one', () => {
  const listed = packages.flatMap(({ manifest: { dependencies, devDependencies, peerDependencies } }) =>
    Object.entries({ ...dependencies, ...devDependencies, ...peerDependencies }),
  );
  const ranges = new Map<string, Set<string>>();
  for (const [name, range] of listed) ranges.set(name, (ranges.get(name) ?? new Set()).add(range.replace(/^\^/, '')));
  expect([...ranges].filter(([, all]) => all.size > 1 || !/^\d/.test([...all][0]!))).toEqual([]);
});

describe.each(examples)('example $name', (example) => {
  test('imports only what its package.json lists, by exported names', () => {
    expect(faultsIn(example, sourcesUnder(example.folder), () => true)).toEqual([]);
  });
});

const modelNames = /llama|qwen|mistral|mixtral|gemma|granite|smollm|gpt-?oss|\bphi\b/i;

test.each(['engine', 'registry', 'cpu', 'onnx-export', 'static-device'])('the sources of %s name no model', (name) => {
  const shipped = sourcesUnder(`packages/${name}/src`).filter(({ path, isTest }) => !isTest && !path.includes('.fixture.'));
  expect(shipped.length).toBeGreaterThan(3);
  expect(shipped.filter(({ text }) => modelNames.test(text)).map(({ path }) => path)).toEqual([]);
});

test('the sources of registry name no tensor', () => {
  const shipped = sourcesUnder('packages/registry/src').filter(({ isTest }) => !isTest);
  expect(shipped.filter(({ text }) => /tensor/i.test(text)).map(({ path }) => path)).toEqual([]);
});

test('a plugin is imported by examples, tests and benchmarks only', () => {
  const faults = packages.flatMap(({ name, folder }) => {
    const others = plugins.filter((plugin) => plugin !== name).map((plugin) => `@graft/${plugin}`);
    const shipped = sourcesUnder(`${folder}/src`).filter(({ isTest }) => !isTest);
    return shipped.flatMap(importsOf).filter(({ specifier }) => others.includes(packageOf(specifier)));
  });
  expect(faults).toEqual([]);
});

test('only the command line writes to the terminal', () => {
  const elsewhere = inPackages.filter(({ path, isTest }) => !isTest && !path.startsWith('packages/server/src/cli/'));
  const places = elsewhere.flatMap((source) => [
    ...placesOfAccess(source, 'console'),
    ...placesOfAccess(source, 'process', 'stdout'),
    ...placesOfAccess(source, 'process', 'stderr'),
  ]);
  expect(places).toEqual([]);
});

test('only configuration and the command line read the environment', () => {
  const mayRead = (path: string): boolean => /(^|\/|-)config\.ts$/.test(path) || path.startsWith('packages/server/src/cli/');
  const elsewhere = inPackages.filter(({ path, isTest }) => !isTest && !mayRead(path));
  expect(elsewhere.flatMap((source) => placesOfAccess(source, 'process', 'env'))).toEqual([]);
});

test('a source file of more than 400 lines has a reason here, and only such a file has one', () => {
  const long = inPackages.filter(
    ({ path, text, isTest }) => !isTest && !path.startsWith('packages/server/src/page/') && text.split('\n').length > 401,
  );
  expect(long.map(({ path }) => path).sort()).toEqual(Object.keys(longFiles).sort());
});

/** Imports that a package may not make, each as `place: specifier: reason`. `mayUse` is asked about other Graft packages. */
function faultsIn(pack: Package, sources: Source[], mayUse: (name: string) => boolean): string[] {
  return sources.flatMap((source) =>
    importsOf(source).flatMap(({ specifier, place }) => {
      const fault = faultOf(pack, source, specifier, mayUse);
      return fault === null ? [] : [`${place}: ${specifier}: ${fault}`];
    }),
  );
}

function faultOf(pack: Package, source: Source, specifier: string, mayUse: (name: string) => boolean): string | null {
  if (specifier.startsWith('.')) {
    const target = relative(join(root, pack.folder), join(root, dirname(source.path), specifier));
    return target.startsWith('..') && !(source.isTest && target.startsWith('../../tests/')) ? 'leaves the package' : null;
  }
  if (isBuiltin(specifier)) return specifier.startsWith('node:') ? null : 'write it with node:';
  const name = packageOf(specifier);
  if (name === pack.manifest.name) return null;
  if (!listedNames(pack, source).has(name)) return 'is not in package.json';
  const exported = exportsOf.get(name);
  if (exported === undefined) return null; // not one of ours
  if (!source.isTest && !mayUse(name)) return 'is not in the import table';
  return exported.includes(`.${specifier.slice(name.length)}`) ? null : 'is not exported';
}

const shippedNames = ({ dependencies, peerDependencies }: Manifest): string[] => Object.keys({ ...dependencies, ...peerDependencies });

/** What a source may name: its package's dependencies, and in a test the tools of the root as well. */
function listedNames({ manifest }: Package, { isTest }: Source): Set<string> {
  const names = shippedNames(manifest);
  if (!isTest) return new Set(names);
  const tools = Object.keys(rootManifest.devDependencies ?? {}).filter((name) => !name.startsWith('@graft/'));
  return new Set([...names, ...Object.keys(manifest.devDependencies ?? {}), ...tools]);
}
