import { createHash, randomBytes } from 'node:crypto';
import { accessSync, constants, mkdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { messageOf, useCacheEntry } from '@graft/common';
import type { CompileOptions } from '@graft/graph';
import { z } from 'zod';
import { BucketPlan, type Source } from './bucket-plan.ts';
import { StaticDeviceRecipeError } from './errors.ts';

const Hash = z.string().regex(/^[0-9a-f]{64}$/);

const Body = z.strictObject({
  bucket: z.string(),
  plan: BucketPlan,
  /** The hash of each graph's optimised model, which is also the name of its file. */
  models: z.record(Hash, Hash),
});
const RecipeFile = z.strictObject({ checksum: Hash, body: z.string() });

/** A compiled bucket on disk: its plan, and its optimised models by graph. */
export interface Recipe {
  readonly plan: BucketPlan;
  readonly models: ReadonlyMap<string, Uint8Array>;
}

/**
 * The recipes of a model: a folder with a JSON file for each bucket, and the optimised graphs, named by the hash of their content. Weights are inputs of the
 * graphs, so a recipe has no value of a weight. Files are written under a temporary name and renamed, and equal names mean equal content, so processes may
 * write at the same time. A damaged recipe counts as missing.
 */
export class Recipes {
  private readonly folder: string;
  /** Hashes of the optimised models on disk, by graph. */
  private readonly models = new Map<string, string>();

  private constructor(folder: string) {
    this.folder = folder;
  }

  /** A read-only folder serves the recipes that it has. @throws StaticDeviceRecipeError when the folder cannot be created */
  static open(directory: string, key: string): Recipes {
    const folder = join(directory, key);
    guard(folder, () => mkdirSync(folder, { recursive: true }));
    useCacheEntry(directory, key);
    return new Recipes(folder);
  }

  /** @param bindRuntimeInput what the caches must have as rows. @returns null where there is no whole recipe. */
  read(bucket: string, bindRuntimeInput: CompileOptions['bindRuntimeInput']): Recipe | null {
    try {
      const { checksum, body } = RecipeFile.parse(JSON.parse(readFileSync(this.pathOf(bucket), 'utf8')));
      if (hashOf(body) !== checksum) return null;
      const { bucket: named, plan, models } = Body.parse(JSON.parse(body));
      if (named !== bucket || !isConsistent(plan, bindRuntimeInput)) return null;
      const read = new Map<string, Uint8Array>();
      for (const { graph } of plan.calls) {
        const hash = models[graph];
        if (hash === undefined) return null;
        if (read.has(graph)) continue;
        const model = readFileSync(this.modelPath(hash));
        if (hashOf(model) !== hash) return null;
        read.set(graph, model);
        this.models.set(graph, hash);
      }
      return { plan, models: read };
    } catch {
      return null; // missing, unreadable or malformed
    }
  }

  /** Keeps the optimised model that `compile` writes to `optimisedPath`. @throws StaticDeviceRecipeError, and the errors of `compile` */
  async keep(graph: string, compile: (optimisedPath: string) => Promise<void>): Promise<void> {
    const path = this.temporary('onnx');
    guard(this.folder, () => accessSync(this.folder, constants.W_OK));
    try {
      await compile(path);
      guard(this.folder, () => {
        const hash = hashOf(readFileSync(path));
        renameSync(path, this.modelPath(hash));
        this.models.set(graph, hash);
      });
    } finally {
      rmSync(path, { force: true });
    }
  }

  /** @throws StaticDeviceRecipeError */
  write(bucket: string, plan: BucketPlan): void {
    const models = Object.fromEntries(plan.calls.map(({ graph }) => [graph, this.models.get(graph)!]));
    const body = JSON.stringify({ bucket, plan, models } satisfies z.input<typeof Body>);
    const path = this.temporary('json');
    guard(this.folder, () => {
      try {
        writeFileSync(path, JSON.stringify({ checksum: hashOf(body), body }));
        renameSync(path, this.pathOf(bucket));
      } finally {
        rmSync(path, { force: true });
      }
    });
  }

  private pathOf(bucket: string): string {
    return join(this.folder, `${encodeURIComponent(bucket)}.json`);
  }

  private modelPath(hash: string): string {
    return join(this.folder, `${hash}.onnx`);
  }

  private temporary(extension: string): string {
    return join(this.folder, `${process.pid}-${randomBytes(6).toString('hex')}.${extension}.tmp`);
  }
}

function hashOf(content: string | Uint8Array): string {
  return createHash('sha256').update(content).digest('hex');
}

function guard<T>(folder: string, write: () => T): T {
  try {
    return write();
  } catch (cause) {
    throw new StaticDeviceRecipeError(`The recipes cannot be written: ${messageOf(cause)}`, folder, cause);
  }
}

/** Whether all references of a plan are valid, and its caches have the rows that `bindRuntimeInput` gives. */
function isConsistent(plan: BucketPlan, bindRuntimeInput: CompileOptions['bindRuntimeInput']): boolean {
  const { values, weights, caches, groups, calls, outputs } = plan;
  const inputs = new Set(plan.inputs.map(({ name }) => name));
  const paths = { weight: new Set(weights.map(({ path }) => path)), cache: new Set(caches.map(({ path }) => path)) };
  const made = new Set<number>();
  const isReadable = (source: Source): boolean => {
    if (source.from === 'input') return inputs.has(source.name);
    return source.from === 'value' ? made.has(source.index) : paths[source.from].has(source.path);
  };
  for (const { reads, writes } of calls) {
    if (!reads.every(({ source }) => isReadable(source))) return false;
    for (const { target } of writes) {
      if (target.to === 'cache' ? !paths.cache.has(target.path) : target.index >= values.length) return false;
      if (target.to === 'value') made.add(target.index);
    }
  }
  const areCachesBound = caches.every(({ path, kind, dims }) => {
    const binding = bindRuntimeInput(path, kind);
    return binding.kind === 'cache' && binding.rows === dims[1];
  });
  const named = groups.flatMap(({ queryStart, sequenceLengths, totalLength }) => [queryStart, sequenceLengths, totalLength]);
  const areGroupsFine = named.every((name) => name === null || inputs.has(name));
  return areCachesBound && areGroupsFine && made.size === values.length && outputs.every(({ index }) => made.has(index));
}
