import { architecturesOf, type Checkpoint, type ModelConfig, type ModelFamily, type RawConfig, type WeightRules } from '@graft/core-model';
import type { ModelRegistry } from '@graft/registry';
import { ReadAsError, UnknownGgufError } from './errors.ts';

/** A checkpoint, and what it is served as. */
export interface ModelSource {
  readonly checkpoint: Checkpoint;
  /** As in config.json, or the architecture that it is read as. */
  readonly architectures: readonly string[];
  /** A config.json of that architecture's family. */
  readonly raw: RawConfig;
  /** Its own architecture and why the answers are the same, if it is read as another family's; otherwise null. */
  readonly readAs: { readonly from: string; readonly why: string } | null;
  /** The rules by which its tensors become parameters. */
  rules(family: ModelFamily, config: ModelConfig): WeightRules;
}

/**
 * Identifies a checkpoint by name: by the `architectures` of its config.json, or by the registered family of a GGUF. No config is parsed.
 * @param as another architecture to read it as: of the same family, or one that the family's `readAs` allows.
 * @throws UnknownArchitectureError, UnknownGgufError, ReadAsError, ConfigInvalidError without `architectures`; the family's errors for a GGUF.
 */
export async function readSource(registry: ModelRegistry, checkpoint: Checkpoint, as: string | undefined): Promise<ModelSource> {
  const own = checkpoint.kind === 'gguf' ? await ggufSource(registry, checkpoint) : folderSource(checkpoint);
  const { architecture: from } = registry.resolve(own.architectures, { platform: null }); // throws for unknown ones
  if (as === undefined || as === own.architectures[0]) return own;
  registry.upstreamOf(as); // throws for an unknown name, with the nearest names
  const families = await registry.families<ModelFamily>();
  const family = families.get(from);
  if (family !== undefined && families.get(as) === family) return { ...own, architectures: [as] };
  const { [as]: reading, ...others } = family?.readAs ?? {};
  if (reading === undefined) throw new ReadAsError({ from, as, path: checkpoint.path, allowed: Object.keys(others) });
  return {
    checkpoint,
    architectures: [as],
    raw: reading.config(own.raw, checkpoint.path),
    readAs: { from, why: reading.why },
    rules: (_family, config) => reading.weights(config as never, checkpoint.kind),
  };
}

function folderSource(checkpoint: Checkpoint): ModelSource {
  const architectures = architecturesOf(checkpoint.config, checkpoint.path);
  const raw = checkpoint.config as RawConfig;
  return { checkpoint, architectures, raw, readAs: null, rules: (family, config) => family.weights(config) };
}

async function ggufSource(registry: ModelRegistry, checkpoint: Checkpoint): Promise<ModelSource> {
  const { path, metadata, tensors } = checkpoint;
  const name = String(metadata!.get('general.architecture') ?? null);
  const families = [...new Set((await registry.families<ModelFamily>()).values())];
  const reading = families.find(({ gguf }) => gguf?.architectures.includes(name))?.gguf;
  const known = families.flatMap(({ gguf }) => gguf?.architectures ?? []);
  if (!reading) throw new UnknownGgufError(name, path, known);
  const raw = reading.config({ path, metadata: metadata!, tensors });
  return {
    checkpoint,
    architectures: architecturesOf(raw, path),
    raw,
    readAs: null,
    rules: (family, config) => family.gguf!.weights(config),
  };
}

/** One line for an explanation; empty if it is read as what it is. */
export function readAsText(readAs: ModelSource['readAs']): string[] {
  return readAs === null ? [] : [`  the checkpoint is a ${readAs.from}: ${readAs.why}`];
}

/** @param path for errors. */
export function configAlone(path: string, config: unknown): Checkpoint {
  return {
    path,
    kind: 'safetensors',
    config,
    metadata: null,
    tensors: new Map(),
    fingerprint: async () => '',
    [Symbol.dispose]: () => undefined,
  };
}
