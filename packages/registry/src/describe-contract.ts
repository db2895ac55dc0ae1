import { graftError, meantNames, nearestText, quotedList } from '@graft/common';
import { ownerText } from '@graft/services';
import { methodNames } from './contract.ts';
import type { LoadedPlugins } from './loaded-plugins.ts';
import { loadManifest, ManifestChain } from './manifest.ts';
import type { InspectableModel } from './model.ts';
import type { ReliesOn } from './plugin.ts';

/** All that an override may rely on of an upstream class, as data. */
export interface ClassContract {
  readonly class: string;
  /** The architecture whose class it is; null for a part of a model, whose members a contract names as `Class.member`. */
  readonly architecture: string | null;
  readonly plugin: string;
  readonly version: string | null;
  /** Without a manifest the methods are those of the class alone: no parameters and no hashes. */
  readonly hasManifest: boolean;
  readonly reliesOn: Required<Omit<ReliesOn, 'version'>> & Pick<ReliesOn, 'version'>;
}

/**
 * The contract of an architecture's class, or of any class in the manifests of the loaded plugins.
 * @param build for an architecture: makes its upstream model, whose parameters are then listed too.
 * @throws UnknownClassError with the nearest names; ManifestInvalidError and what importing the class throws.
 */
export async function describeContract(
  { plugins, registry }: LoadedPlugins,
  name: string,
  build?: (architecture: string) => Promise<InspectableModel>,
): Promise<ClassContract> {
  const sources = await Promise.all(
    plugins.map(async ({ plugin, file }) => {
      const manifest = await loadManifest(plugin.manifest ?? null, ownerText({ plugin: plugin.name, file }));
      return { plugin: plugin.name, version: plugin.version ?? manifest?.version ?? null, manifest };
    }),
  );
  const architectures = registry.list();
  const listed = architectures.find(({ architecture }) => architecture === name);
  const has = ({ manifest }: (typeof sources)[number], className: string): boolean => Object.hasOwn(manifest?.classes ?? {}, className);
  const source = sources.find((one) => (listed === undefined ? has(one, name) : one.plugin === listed.owner.plugin));
  if (listed === undefined && source === undefined) {
    const known = [
      ...architectures.map(({ architecture }) => architecture),
      ...sources.flatMap((one) => Object.keys(one.manifest?.classes ?? {})),
    ];
    const manifests = sources.filter(({ manifest }) => manifest !== null).map(({ plugin }) => plugin);
    const isPlugin = plugins.some((one) => one.name === name || one.specifier === name);
    throw new UnknownClassError(name, meantNames(name, known), manifests, isPlugin);
  }
  const Model = listed === undefined ? null : (await registry.load(registry.upstreamOf(name))).Model;
  const className = Model?.name ?? name;
  const { plugin = listed!.owner.plugin, version = null, manifest = null } = source ?? {};
  const chain = source !== undefined && has(source, className) ? new ManifestChain(manifest!, className) : null;
  const parameters =
    listed === undefined || build === undefined ? [] : [...(await build(name)).namedParameters()].map(([path]) => asPattern(path));
  const named = (member: string): string => (listed === undefined ? `${className}.${member}` : member);
  const signatures = chain?.methods.filter(isPlainName).map((method) => named(`${method}(${chain.member(method)!.parameters.join(', ')})`));
  const hashes = (chain?.members ?? []).map((member) => [named(member), chain!.member(member)!.hash] as const);
  return {
    class: className,
    architecture: listed?.architecture ?? null,
    plugin,
    version,
    hasManifest: chain !== null,
    reliesOn: {
      ...(version === null ? {} : { version: `^${version}` }),
      attributes: (chain?.attributes ?? []).filter((attribute) => !attribute.startsWith('static ')).map(named),
      methods: signatures ?? (Model === null ? [] : methodNames(Model)),
      parameters: [...new Set(parameters)],
      copied: Object.fromEntries(hashes.filter((entry): entry is [string, string] => entry[1] !== null)),
    },
  };
}

const asPattern = (path: string): string => path.replace(/(?<=^|\.)\d+(?=\.|$)/g, '*');

const isPlainName = (name: string): boolean => /^(?:static )?[\w$]+$/.test(name);

export class UnknownClassError extends graftError(
  'GRAFT_UNKNOWN_CLASS',
  (name: string, nearest: readonly string[], manifests: readonly string[], isPlugin: boolean) => ({
    what: `No upstream class or architecture is named "${name}".`,
    where: manifests.length === 0 ? 'no loaded plugin has a manifest' : `manifests of plugins ${quotedList(manifests, 'none', 'and')}`,
    fix: isPlugin
      ? `"${name}" is a loaded plugin: add --against FOLDER, which holds the other version of upstream that it is compared with.`
      : `correct the name${nearestText(nearest)}, or load the plugin that brings the class.`,
  }),
) {}

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
