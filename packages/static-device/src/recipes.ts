import { createHash, randomBytes } from 'node:crypto';
import { accessSync, constants, mkdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { messageOf, useCacheEntry } from '@graft/common';
import type { CompileOptions } from '@graft/graph';
import { z } from 'zod';
import { BucketPlan } from './bucket-plan.ts';
import { StaticDeviceRecipeError } from './errors.ts';

const Hash = z.string().regex(/^[0-9a-f]{64}$/);

const Body = z.strictObject({
  bucket: z.string(),
  plan: BucketPlan,
  /** For each graph of the plan, the hash of its optimised model, which is also the name of its file. */
  models: z.record(Hash, Hash),
});
const RecipeFile = z.strictObject({ checksum: Hash, body: z.string() });

/** A bucket as an earlier start has left it: what runs, and the optimised models by graph. */
export interface Recipe {
  readonly plan: BucketPlan;
  readonly models: ReadonlyMap<string, Uint8Array>;
}

/**
 * The recipes of one model: a folder with a JSON file for each bucket and the optimised graphs, which bear the hash of their content. Weights are inputs of
 * the graphs, so that no value of a weight is in them. Files are written beside their place and renamed, and equal names mean equal content: processes that
 * write at once do not harm each other. What is damaged or not as it should be counts as not there.
 */
export class Recipes {
  private readonly folder: string;
  /** Optimised models that are on disk, by graph. */
  private readonly models = new Map<string, string>();

  private constructor(folder: string) {
    this.folder = folder;
  }

  /** A folder that is there and cannot be written serves as long as it has all that is asked for. @throws StaticDeviceRecipeError when there is none. */
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
      return null; // none, unreadable or no recipe: made again like any other damage
    }
  }

  /** Takes over the optimised model that `compile` writes to the path that it gets. @throws StaticDeviceRecipeError, and what `compile` throws. */
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

/** Whether all that a plan points at is there, and its caches are those that this engine has. */
function isConsistent(
  { inputs, values, weights, caches, groups, calls, outputs }: BucketPlan,
  bindRuntimeInput: CompileOptions['bindRuntimeInput'],
): boolean {
  const inputNames = new Set(inputs.map(({ name }) => name));
  const weightPaths = new Set(weights.map(({ path }) => path));
  const cachePaths = new Set(caches.map(({ path }) => path));
  const made = new Set<number>();
  const isMade = (index: number): boolean => index < values.length && made.has(index);
  const areCallsFine = calls.every(({ reads, writes }) => {
    const areRead = reads.every(({ source }) => {
      if (source.from === 'input') return inputNames.has(source.name);
      if (source.from === 'weight') return weightPaths.has(source.path);
      return source.from === 'cache' ? cachePaths.has(source.path) : isMade(source.index);
    });
    for (const { target } of writes) if (target.to === 'value') made.add(target.index);
    return areRead && writes.every(({ target }) => (target.to === 'cache' ? cachePaths.has(target.path) : target.index < values.length));
  });
  const areCachesBound = caches.every(({ path, kind, dims }) => {
    const binding = bindRuntimeInput(path, kind);
    return binding.kind === 'cache' && binding.rows === dims[1];
  });
  const areGroupsFine = groups.every((group) =>
    [group.queryStart, group.sequenceLengths, group.totalLength].every((name) => name === null || inputNames.has(name)),
  );
  return areCallsFine && areCachesBound && areGroupsFine && made.size === values.length && outputs.every(({ index }) => isMade(index));
}
