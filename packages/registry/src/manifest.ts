import { expectValid, graftError } from '@graft/common';
import * as z from 'zod';

const member = z.strictObject({
  parameters: z.array(z.string()).describe('Names in order; `...rest` and patterns as they are written.'),
  hash: z.string().nullable().describe('Of the whole method without comments, types and formatting; null for an abstract one.'),
});
export type ManifestMember = z.output<typeof member>;

const manifestClass = z.strictObject({
  module: z.string().describe("Its source, after the name of the package that has it: '@graft/core-model/src/layers/norm.ts'."),
  base: z.string().nullable().describe('The class that it extends, as written.'),
  fields: z.array(z.string()),
  accessors: z.record(z.string(), member).describe('By `get name` and `set name`.'),
  methods: z.record(z.string(), member).describe('With `constructor`; static ones as `static name`.'),
});
export type ManifestClass = z.output<typeof manifestClass>;

/** The classes of an upstream package. `graft-manifest` writes it from their sources; it is read without importing model code. */
export const UpstreamManifest = z.strictObject({
  format: z.literal(1),
  package: z.string(),
  version: z.string(),
  classes: z.record(z.string(), manifestClass),
});
export type UpstreamManifest = z.output<typeof UpstreamManifest>;

export type LazyManifest = () => Promise<UpstreamManifest>;

export class ManifestInvalidError extends graftError('GRAFT_MANIFEST_INVALID', (owner: string, problems: string) => ({
  what: `The manifest of the upstream classes is malformed: ${problems}.`,
  where: owner,
  fix: 'write it again with the graft-manifest of this version of @graft/registry.',
})) {}

export async function loadManifest(lazy: LazyManifest | null, owner: string): Promise<UpstreamManifest | null> {
  if (lazy === null) return null;
  return expectValid(UpstreamManifest, await lazy(), 'the value', (problems) => new ManifestInvalidError(owner, problems));
}

/** A class with its bases, as far as the manifest has them. */
export class ManifestChain {
  readonly classes: readonly ManifestClass[];
  /** The base that the manifest does not have; null where the chain ends at a class without one. */
  readonly unknownBase: string | null;

  constructor({ classes }: UpstreamManifest, className: string) {
    const found: ManifestClass[] = [];
    let name: string | null = className;
    while (name !== null && Object.hasOwn(classes, name) && !found.includes(classes[name]!)) {
      found.push(classes[name]!);
      name = classes[name]!.base;
    }
    this.classes = found;
    this.unknownBase = name;
  }

  /** A method's or accessor's facts, the subclass's before its bases'. `name` as in the manifest: `forward`, `static of`, `get length`. */
  member(name: string): ManifestMember | null {
    for (const { methods, accessors } of this.classes) {
      if (Object.hasOwn(methods, name)) return methods[name]!;
      if (Object.hasOwn(accessors, name)) return accessors[name]!;
    }
    return null;
  }

  /** Methods without constructors: names as in the manifest, the subclass's first. */
  get methods(): string[] {
    return this.members.filter((name) => name !== 'constructor' && this.classes.some(({ methods }) => Object.hasOwn(methods, name)));
  }

  /** Methods and accessors, constructors too: what can have been copied. */
  get members(): string[] {
    return [...new Set(this.classes.flatMap(({ methods, accessors }) => [...Object.keys(methods), ...Object.keys(accessors)]))];
  }

  get attributes(): string[] {
    const names = this.classes.flatMap(({ fields, accessors }) => [
      ...fields,
      ...Object.keys(accessors).map((name) => name.replace(/\b[gs]et /, '')),
    ]);
    return [...new Set(names)];
  }
}
