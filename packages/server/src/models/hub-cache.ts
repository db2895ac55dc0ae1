import { existsSync } from 'node:fs';
import { mkdir, readdir, readFile, realpath, rm, stat, symlink, writeFile } from 'node:fs/promises';
import { basename, dirname, join, relative } from 'node:path';
import { NotCachedError } from './errors.ts';
import { holdLock } from './file-lock.ts';
import type { HubFile } from './hub.ts';
import { ggufModels, ggufsNamed, type HubName, hasSafetensors, partsAmong, quantOf } from './hub-name.ts';

/**
 * A repository in the layout of Python's huggingface_hub, which shares it: `blobs/HASH`, `snapshots/COMMIT/PATH` as links to blobs, and `refs/REVISION` with the
 * commit that a name meant last.
 */
export class RepositoryCache {
  readonly folder: string;
  private readonly locks: string;

  constructor(cache: string, repo: string) {
    const name = `models--${repo.replace('/', '--')}`;
    this.folder = join(cache, name);
    this.locks = join(cache, '.locks', name);
  }

  snapshot(commit: string): string {
    return join(this.folder, 'snapshots', commit);
  }

  blob({ hash }: HubFile): string {
    return join(this.folder, 'blobs', hash);
  }

  /** Whether a blob is there, for whichever snapshot. */
  async has(file: HubFile): Promise<boolean> {
    return (await sizeOf(this.blob(file))) === file.size;
  }

  /** The commits in the cache. */
  async commits(): Promise<string[]> {
    return (await readdir(join(this.folder, 'snapshots')).catch(() => [])).sort();
  }

  /** Of each branch and tag, the commit that it meant when it was last asked for. */
  async refs(): Promise<Map<string, string>> {
    const folder = join(this.folder, 'refs');
    const refs = (await filesUnder(folder)).map(async (name) => [name, (await readFile(join(folder, name), 'utf8')).trim()] as const);
    return new Map(await Promise.all(refs));
  }

  async commitOf(revision: string): Promise<string | null> {
    return (await this.refs()).get(revision) ?? (await this.commits()).find((commit) => commit === revision) ?? null;
  }

  /** In alphabetical order; a link to a lost blob is left out. */
  async files(commit: string): Promise<Map<string, HubFile>> {
    const found = new Map<string, HubFile>();
    for (const path of (await filesUnder(this.snapshot(commit))).sort()) {
      const file = join(this.snapshot(commit), path);
      const size = await sizeOf(file);
      if (size !== null) found.set(path, { path, size, hash: basename(await realpath(file)) });
    }
    return found;
  }

  async link(commit: string, file: HubFile): Promise<void> {
    const path = join(this.snapshot(commit), file.path);
    await mkdir(dirname(path), { recursive: true });
    await rm(path, { force: true });
    await symlink(relative(dirname(path), this.blob(file)), path);
  }

  /** Notes which commit a revision means, where that is new. */
  async setRef(revision: string, commit: string): Promise<void> {
    if ((await this.commitOf(revision)) === commit) return;
    const path = join(this.folder, 'refs', revision);
    await mkdir(dirname(path), { recursive: true });
    await writeFile(path, commit);
  }

  /** One process at a time writes; Python's locks are other files, and both only ever move whole blobs to their names. */
  async lock(signal?: AbortSignal, onWait?: (pid: number) => void): Promise<AsyncDisposable> {
    await mkdir(this.locks, { recursive: true });
    await mkdir(join(this.folder, 'blobs'), { recursive: true });
    return holdLock(join(this.locks, 'graft.lock'), { ...(signal && { signal }), ...(onWait && { onWait }) });
  }

  /** The bytes of half-downloaded blobs, by Graft or by huggingface_hub; null without any. */
  async incompleteBytes(): Promise<number | null> {
    return (await filesUnder(join(this.folder, 'blobs'))).some(isIncomplete) ? await this.bytes(isIncomplete) : null;
  }

  /** The bytes of all blobs, half-downloaded ones too. */
  async bytes(isCounted: (name: string) => boolean = () => true): Promise<number> {
    const blobs = (await filesUnder(join(this.folder, 'blobs'))).filter(isCounted);
    const sizes = await Promise.all(blobs.map((path) => sizeOf(join(this.folder, 'blobs', path))));
    return sizes.reduce<number>((sum, size) => sum + (size ?? 0), 0);
  }

  /**
   * Removes a GGUF, or the whole of the repository; of one revision, or of all. What other snapshots share stays.
   * @returns the bytes that this frees.
   * @throws NotCachedError
   */
  async remove({ text, variant, revision }: HubName): Promise<number> {
    const absence = new NotCachedError(text, 'graft models lists what the cache has.');
    if (!existsSync(this.folder)) throw absence;
    await using _lock = await this.lock();
    const before = await this.bytes();
    const chosen = revision === null ? await this.commits() : [await this.commitOf(revision)].filter((commit) => commit !== null);
    let removed = 0;
    for (const commit of chosen) {
      const all = [...(await this.files(commit)).keys()];
      const paths = variant === null ? all : ggufsNamed(variant, all).flatMap((first) => partsAmong(first, all));
      for (const path of paths) await rm(join(this.snapshot(commit), path));
      if (paths.length === all.length) await rm(this.snapshot(commit), { recursive: true });
      removed += paths.length;
    }
    if (removed === 0 && (variant ?? revision) !== null) throw absence;
    await this.sweep();
    return before - (await this.bytes());
  }

  /** Removes the blobs and refs that no snapshot needs; all, where no snapshot is left. */
  private async sweep(): Promise<void> {
    const commits = await this.commits();
    if (commits.length === 0) {
      for (const folder of [this.folder, this.locks]) await rm(folder, { recursive: true });
      return;
    }
    const files = await Promise.all(commits.map(async (commit) => [...(await this.files(commit)).values()]));
    const needed = new Set(files.flat().map(({ hash }) => hash));
    const blobs = await filesUnder(join(this.folder, 'blobs'));
    // What is incomplete may be in another program's hands.
    const idle = blobs.filter((hash) => !needed.has(hash) && !isIncomplete(hash));
    for (const hash of idle) await rm(join(this.folder, 'blobs', hash));
    for (const [ref, commit] of await this.refs()) if (!commits.includes(commit)) await rm(join(this.folder, 'refs', ref));
  }
}

export interface CachedModel {
  /** As `graft pull` and `graft rm` take it. */
  readonly name: string;
  /** What `--model` takes; null for a repository without a model in it. */
  readonly path: string | null;
  readonly bytes: number;
  /** Some file of the repository was not downloaded to its end; which one, only the hub knows. */
  readonly isIncomplete?: boolean;
}

/** The models of the hub's cache, whoever downloaded them: each GGUF, and the safetensors of each snapshot. */
export async function cachedModels(cache: string): Promise<CachedModel[]> {
  const folders = (await readdir(cache).catch(() => [])).filter((name) => name.startsWith('models--')).sort();
  return (await Promise.all(folders.map((name) => modelsOf(cache, name.slice('models--'.length).replace('--', '/'))))).flat();
}

async function modelsOf(cache: string, repo: string): Promise<CachedModel[]> {
  const repository = new RepositoryCache(cache, repo);
  const refs = [...(await repository.refs())];
  const found: CachedModel[] = [];
  for (const commit of await repository.commits()) {
    const files = await repository.files(commit);
    const paths = [...files.keys()];
    const names = refs.filter(([, each]) => each === commit).map(([name]) => name);
    const revision = names.includes('main') ? '' : `@${names[0] ?? commit}`;
    const add = (variant: string, open: string, parts: readonly string[]) => {
      const bytes = parts.reduce((sum, path) => sum + files.get(path)!.size, 0);
      found.push({ name: `hf:${repo}${variant}${revision}`, path: join(repository.snapshot(commit), open), bytes });
    };
    for (const first of ggufModels(paths)) {
      const quant = quantOf(first);
      const isUnique = quant !== null && ggufsNamed(quant, paths).length === 1;
      add(`:${isUnique ? quant : first}`, first, partsAmong(first, paths));
    }
    const others = paths.filter((path) => !/\.gguf$/i.test(path));
    if (hasSafetensors(others)) add('', '', others);
  }
  const bytes = await repository.incompleteBytes();
  if (bytes !== null) return [...found, { name: `hf:${repo}`, path: null, bytes, isIncomplete: true }];
  return found.length > 0 ? found : [{ name: `hf:${repo}`, path: null, bytes: await repository.bytes() }];
}

const isIncomplete = (name: string): boolean => name.endsWith('.incomplete');

async function sizeOf(path: string): Promise<number | null> {
  const file = await stat(path).catch(() => null);
  return file?.isFile() === true ? file.size : null;
}

async function filesUnder(folder: string): Promise<string[]> {
  const entries = await readdir(folder, { recursive: true, withFileTypes: true }).catch(() => []);
  return entries.filter((entry) => !entry.isDirectory()).map((entry) => relative(folder, join(entry.parentPath, entry.name)));
}
