import { methodNames } from './contract.ts';
import { UnknownClassError } from './contract-errors.ts';
import type { LoadedPlugins } from './loaded-plugins.ts';
import { loadManifest, ManifestChain, type UpstreamManifest } from './manifest.ts';
import type { InspectableModel } from './model.ts';
import { nearestNames } from './names.ts';
import type { ReliesOn } from './plugin.ts';
import { type Owner, ownerText } from './registration.ts';

/** An upstream class that a contract can be written against. */
interface DescribedClass {
  readonly class: string;
  /** The architecture whose class it is; null for a part of a model, whose members a contract names as `Class.member`. */
  readonly architecture: string | null;
  readonly plugin: string;
  readonly version: string | null;
  /** Methods by the class alone where it is false: no parameters and no hashes, which only a manifest knows. */
  readonly hasManifest: boolean;
}

/** All that an override may rely on of a class, as data. */
export interface ClassContract extends DescribedClass {
  readonly reliesOn: Required<Omit<ReliesOn, 'version'>> & Pick<ReliesOn, 'version'>;
}

interface Source {
  readonly owner: Owner;
  readonly version: string | null;
  readonly manifest: UpstreamManifest | null;
}

/**
 * The contract of an architecture's class, or of any class in the manifests of the loaded plugins.
 * @param build for an architecture: makes its upstream model, whose parameters are then listed too.
 * @throws UnknownClassError with the nearest names; ManifestInvalidError and what importing the class throws.
 */
export async function describeContract(
  plugins: LoadedPlugins,
  name: string,
  build?: (architecture: string) => Promise<InspectableModel>,
): Promise<ClassContract> {
  const sources = await sourcesOf(plugins);
  const listed = plugins.registry.list().find(({ architecture }) => architecture === name);
  if (listed !== undefined) {
    const { Model } = await plugins.registry.load(plugins.registry.upstreamOf(name));
    const source = sources.find(({ owner }) => owner.plugin === listed.owner.plugin) ?? {
      owner: listed.owner,
      version: null,
      manifest: null,
    };
    const model = build === undefined ? null : await build(name);
    const parameters = model === null ? [] : [...new Set([...model.namedParameters()].map(([path]) => asPattern(path)))];
    return contractOf({ source, className: Model.name, architecture: name, methods: methodNames(Model), parameters });
  }
  const source = sources.find(({ manifest }) => manifest !== null && Object.hasOwn(manifest.classes, name));
  if (source !== undefined) return contractOf({ source, className: name, architecture: null, methods: [], parameters: [] });
  const known = [...plugins.registry.list().map(({ architecture }) => architecture), ...sources.flatMap(classNames)];
  const manifests = sources.filter(({ manifest }) => manifest !== null).map(({ owner }) => owner.plugin);
  throw new UnknownClassError(name, { nearest: nearestNames(name, known), manifests });
}

const classNames = ({ manifest }: Source): string[] => Object.keys(manifest?.classes ?? {});

function sourcesOf({ plugins }: LoadedPlugins): Promise<Source[]> {
  return Promise.all(
    plugins.map(async ({ plugin, file, version }) => {
      const owner = { plugin: plugin.name, file };
      const manifest = await loadManifest(plugin.manifest ?? null, ownerText(owner));
      return { owner, version: version ?? manifest?.version ?? null, manifest };
    }),
  );
}

/** `model.layers.3.norm.weight` -> `model.layers.*.norm.weight`. */
const asPattern = (path: string): string => path.replace(/(?<=^|\.)\d+(?=\.|$)/g, '*');

interface Described {
  source: Source;
  className: string;
  architecture: string | null;
  methods: readonly string[];
  parameters: readonly string[];
}

function contractOf({ source, className, architecture, methods, parameters }: Described): ClassContract {
  const { owner, version, manifest } = source;
  const chain = manifest !== null && Object.hasOwn(manifest.classes, className) ? new ManifestChain(manifest, className) : null;
  const named = (member: string): string => (architecture === null ? `${className}.${member}` : member);
  const hashes = (chain?.members ?? []).map((member) => [named(member), chain!.member(member)!.hash] as const);
  return {
    class: className,
    architecture,
    plugin: owner.plugin,
    version,
    hasManifest: chain !== null,
    reliesOn: {
      ...(version === null ? {} : { version: `^${version}` }),
      attributes: (chain?.attributes ?? []).filter((name) => !name.startsWith('static ')).map(named),
      methods:
        chain === null
          ? methods
          : chain.methods.filter(isPlainName).map((name) => named(`${name}(${chain.member(name)!.parameters.join(', ')})`)),
      parameters,
      copied: Object.fromEntries(hashes.filter((entry): entry is [string, string] => entry[1] !== null)),
    },
  };
}

const isPlainName = (name: string): boolean => /^(?:static )?[\w$]+$/.test(name);

/** The contract as TypeScript to paste into an override's declaration: what is not used is to be deleted, and copied methods are to be chosen. */
export function contractText({ class: className, plugin, version, hasManifest, architecture, reliesOn }: ClassContract): string {
  const { attributes, methods, parameters, copied } = reliesOn;
  const lines = [
    `// ${className} of plugin "${plugin}"${version === null ? '' : ` ${version}`}: keep what the override uses and delete the rest.`,
  ];
  if (!hasManifest)
    lines.push(
      '// The plugin has no manifest: parameters and hashes of methods, and attributes, are not known, and a contract says "not checked".',
    );
  lines.push('reliesOn: {');
  if (reliesOn.version !== undefined) lines.push(`  version: ${quoted(reliesOn.version)},`);
  lines.push(...listOf('attributes', attributes), ...listOf('methods', methods), ...listOf('parameters', parameters));
  if (architecture !== null && parameters.length === 0) lines.push('  // parameters: [...], with `--model PATH`');
  const hashes = Object.entries(copied);
  if (hashes.length > 0) {
    lines.push('  // copied: {', '  //   Only those whose body the override copied.');
    lines.push(...hashes.map(([name, hash]) => `  //   ${quoted(name)}: ${quoted(hash)},`), '  // },');
  }
  return [...lines, '},'].join('\n');
}

const quoted = (text: string): string => `'${text.replaceAll('\\', '\\\\').replaceAll("'", "\\'")}'`;

function listOf(name: string, items: readonly string[]): string[] {
  if (items.length === 0) return [];
  const line = `  ${name}: [${items.map(quoted).join(', ')}],`;
  return line.length <= 100 ? [line] : [`  ${name}: [`, ...items.map((item) => `    ${quoted(item)},`), '  ],'];
}
