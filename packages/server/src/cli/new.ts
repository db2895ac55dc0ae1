import { cpSync, existsSync, mkdirSync, readdirSync, readFileSync, renameSync, writeFileSync } from 'node:fs';
import { basename, dirname, join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { graftVersion } from '@graft/engine/starter';
import { UsageError } from './flags.ts';
import { print, type Terminal } from './terminal.ts';

const home = fileURLToPath(new URL('../../', import.meta.url)); // of this package: two folders above both src/cli and dist/cli
const templates = join(home, 'templates');

/** A project's plugin has the project's name, and two plugins of one name cannot be loaded. */
const ownPlugins = ['core-model', 'cpu', 'llama4-hpu'];

interface Manifest {
  peerDependencies: Record<string, string>;
  devDependencies: Record<string, string>;
  [key: string]: unknown;
}

/**
 * Writes the project of a plugin into a new folder with its name.
 * @throws UsageError for a name that npm refuses or that a plugin of Graft has, and a folder with files in it.
 */
export function newProject(kind: string, name: string, { json }: { json?: boolean }, terminal: Terminal): void {
  const valid = validName(name) || `my-${kind}`;
  if (name !== valid) throw new UsageError(`"${name}" is not a name for a package and its classes.`, 'graft new', `use "${valid}".`);
  if (ownPlugins.includes(name))
    throw new UsageError(`"${name}" is a plugin of Graft.`, 'graft new', `use another name, such as "my-${name}".`);
  const folder = resolve(name.slice(name.indexOf('/') + 1));
  if (existsSync(folder) && readdirSync(folder).length > 0)
    throw new UsageError('The folder exists and is not empty.', folder, 'choose another name, or empty the folder.');
  const files = writeProject(kind, name, folder);
  const text = `${folder} holds the new ${kind}. Next:\n  cd ${folder}\n  npm install && npm test\nREADME.md lists the commands after that.`;
  print(terminal, json, { text, record: { kind, name, folder, files } });
}

/** Fills a folder with a template, under the project's name. @returns the paths in it. */
export function writeProject(kind: string, name: string, folder: string): string[] {
  mkdirSync(folder, { recursive: true });
  for (const template of ['common', kind]) cpSync(join(templates, template), folder, { recursive: true });
  for (const file of readdirSync(folder, { recursive: true, withFileTypes: true })) {
    if (file.isFile()) rename(join(file.parentPath, file.name), kind, name);
  }
  const manifest = join(folder, 'package.json');
  writeFileSync(manifest, `${JSON.stringify(withVersions(JSON.parse(readFileSync(manifest, 'utf8')) as Manifest), null, 2)}\n`);
  return readdirSync(folder, { recursive: true, encoding: 'utf8' }).sort();
}

/** The nearest name that npm accepts and that starts with a letter, as a class does; empty if nothing is left. */
function validName(name: string): string {
  const [, scope, own = ''] = /^(?:@([^/]*)\/)?(.*)$/s.exec(name.toLowerCase())!;
  const clean = (part: string) => part.replace(/[^a-z0-9._-]+/g, '-').replace(/^[^a-z]+|[._-]+$/g, '');
  const isScoped = scope !== undefined && clean(scope) !== '';
  return clean(own) === '' ? '' : `${isScoped ? `@${clean(scope)}/` : ''}${clean(own)}`.slice(0, 200);
}

/**
 * `my-model` and `MyModel` become the project's name and classes. Some file names start with `_` here: npm would leave `.npmrc` out of a package, and publint
 * refuses a nested package.json.
 */
function rename(file: string, kind: string, name: string): void {
  const pascal = (text: string) =>
    text
      .slice(text.indexOf('/') + 1)
      .split(/[^a-z0-9]+/)
      .map((word) => word.charAt(0).toUpperCase() + word.slice(1))
      .join('');
  const text = readFileSync(file, 'utf8')
    .replaceAll(`my-${kind}`, name)
    .replaceAll(pascal(`my-${kind}`), pascal(name));
  writeFileSync(file, text);
  renameSync(
    file,
    join(
      dirname(file),
      basename(file).replace(/^_(package\.json)?/, (_, packageFile) => packageFile ?? '.'),
    ),
  );
}

/** Graft's packages come from where this installation came from: a registry, tarballs or a checkout. Only a registry knows versions. */
function withVersions({ peerDependencies, devDependencies, ...rest }: Manifest): Manifest {
  const local = localPackages();
  const range = `^${graftVersion}`;
  const filled = (dependencies: Record<string, string>, of: Record<string, string>) =>
    Object.fromEntries(
      Object.entries(dependencies).map(([name, version]) => [name, name.startsWith('@graft/') ? (of[name] ?? range) : version]),
    );
  return {
    ...rest,
    peerDependencies: filled(peerDependencies, {}),
    devDependencies: filled(devDependencies, local),
    ...(Object.keys(local).length > 0 && { overrides: local, resolutions: local, pnpm: { overrides: local } }),
  };
}

/** The tarballs or folders of Graft's packages, as `file:` and an absolute path; none where they came from a registry. */
function localPackages(): Record<string, string> {
  const root = /^(.*?)[\\/]node_modules[\\/]/.exec(home)?.[1];
  if (root === undefined) {
    const folder = dirname(resolve(home));
    return Object.fromEntries(readdirSync(folder).map((name) => [`@graft/${name}`, `file:${join(folder, name)}`]));
  }
  const locks = ['node_modules/.package-lock.json', 'node_modules/.pnpm/lock.yaml', 'yarn.lock'].map((file) => join(root, file));
  const text = locks.map((file) => (existsSync(file) ? readFileSync(file, 'utf8') : '')).join('\n');
  const tarballs = text.matchAll(/file:([^\s"']*?graft-([a-z0-9-]+?)-\d+\.\d+\.\d+[^\s"'/]*?\.tgz)/g);
  return Object.fromEntries([...tarballs].map(([, path, name]) => [`@graft/${name}`, `file:${resolve(root, path!)}`]));
}
