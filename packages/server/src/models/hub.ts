import { readFile } from 'node:fs/promises';
import { homedir } from 'node:os';
import { join } from 'node:path';
import { GraftError, messageOf } from '@graft/common';
import { HubAccessError, HubNotFoundError, HubSettingError, HubUnreachableError } from './errors.ts';
import type { HubName } from './hub-name.ts';

/** Where the hub and its cache are, by the variables of Python's huggingface_hub. */
export interface HubSettings {
  /** Without a slash at its end. */
  readonly endpoint: string;
  readonly cache: string;
  readonly token: string | null;
  readonly offline: boolean;
}

/** @throws HubSettingError */
export async function hubSettings(environment: NodeJS.ProcessEnv): Promise<HubSettings> {
  const given = (name: string) => environment[name]?.trim().replace(/^~(?=\/|$)/, homedir()) || undefined;
  const home = given('HF_HOME') ?? join(userCache(environment), 'huggingface');
  const login = async () => (await readFile(join(home, 'token'), 'utf8').catch(() => '')).trim() || null;
  const endpoint = given('HF_ENDPOINT') ?? 'https://huggingface.co';
  if (!URL.canParse(endpoint) || !/^https?:/.test(endpoint))
    throw new HubSettingError(`"${endpoint}" is not the address of a hub.`, 'HF_ENDPOINT', 'begin it with https://, or unset it.');
  const token = given('HF_TOKEN') ?? (await login());
  if (token !== null && /[^!-~]/.test(token))
    throw new HubSettingError('The token holds characters that no token has.', 'HF_TOKEN or its file', 'copy it from the hub again.');
  return {
    endpoint: endpoint.replace(/\/+$/, ''),
    cache: given('HF_HUB_CACHE') ?? join(home, 'hub'),
    token,
    offline: /^(1|on|yes|true)$/i.test(given('HF_HUB_OFFLINE') ?? ''),
  };
}

/** The user's cache folder: XDG_CACHE_HOME, or else `~/.cache`. */
export function userCache(environment: NodeJS.ProcessEnv): string {
  return environment['XDG_CACHE_HOME'] || join(homedir(), '.cache');
}

/** Why a request failed; `fetch` hides it in the cause. */
export function reasonOf(error: unknown): string {
  const { code, message } = ((error as Error).cause ?? error) as NodeJS.ErrnoException;
  return message || String(code);
}

export interface HubFile {
  readonly path: string;
  readonly size: number;
  /** SHA-256 of a file in LFS, git's SHA-1 of any other; also the name of the blob in the cache. */
  readonly hash: string;
}

export interface HubListing {
  /** The commit that the revision means now. */
  readonly commit: string;
  readonly files: ReadonlyMap<string, HubFile>;
}

/** Asks the hub for one repository. Every failure is one of this folder's errors, or the signal's reason. */
export class HubRepository {
  readonly name: HubName;
  private readonly settings: HubSettings;
  private readonly signal: AbortSignal | undefined;

  constructor(name: HubName, settings: HubSettings, signal: AbortSignal | undefined) {
    this.name = name;
    this.settings = settings;
    this.signal = signal;
  }

  /** The files of the revision. */
  async list(): Promise<HubListing> {
    const { repo, revision, text } = this.name;
    const asked = { hubUrl: this.settings.endpoint, fetch: this.fetch };
    try {
      // The package's own downloads (downloadFileToCacheDir, snapshotDownload 2.17.5) neither resume nor check hashes nor take a signal, and take all files;
      // its scanCacheDir skips folders in a snapshot and gives up on a repository without refs.
      const { listFiles, modelInfo } = await import('@huggingface/hub');
      const { sha: commit } = await modelInfo({ ...asked, name: repo, revision: revision ?? 'main', additionalFields: ['sha'] });
      const files = new Map<string, HubFile>();
      for await (const entry of listFiles({ ...asked, repo: { type: 'model', name: repo }, revision: commit, recursive: true })) {
        const { path, size, lfs, oid } = entry;
        if (entry.type === 'file') files.set(path, { path, size: lfs?.size ?? size, hash: lfs?.oid ?? oid ?? '' });
      }
      // They become paths on this disk.
      const isSafe = ({ path, hash }: HubFile) => /^([0-9a-f]{40}|[0-9a-f]{64})$/.test(hash) && !/(^|[\\/])\.\.([\\/]|$)|^[\\/]/.test(path);
      if (/^[0-9a-f]{40}$/.test(commit) && [...files.values()].every(isSafe)) return { commit, files };
      throw new TypeError('its list of files is malformed');
    } catch (error) {
      this.signal?.throwIfAborted();
      if (GraftError.is(error)) throw error;
      throw new HubUnreachableError(`${this.settings.endpoint} does not answer as the hub does: ${messageOf(error)}.`, text, error);
    }
  }

  /** A file's bytes from an offset on; the answer has all of them where the server knows no ranges. */
  download(commit: string, path: string, from: number): Promise<Response> {
    const url = `${this.settings.endpoint}/${this.name.repo}/resolve/${commit}/${path.split('/').map(encodeURIComponent).join('/')}`;
    return this.fetch(url, { headers: { 'accept-encoding': 'identity', ...(from > 0 && { range: `bytes=${from}-` }) } });
  }

  private readonly fetch: typeof fetch = async (input, init) => {
    const { endpoint, token } = this.settings;
    const url = new URL(String(input));
    const hub = new URL(endpoint).origin;
    const headers = new Headers(init?.headers);
    // A redirect to another origin, such as the CDN's, drops it.
    if (token !== null && url.origin === hub) headers.set('authorization', `Bearer ${token}`);
    const response = await fetch(url, { ...init, headers, ...(this.signal && { signal: this.signal }) }).catch((error: Error) => {
      this.signal?.throwIfAborted();
      throw new HubUnreachableError(`${hub} cannot be reached: ${reasonOf(error)}.`, this.name.text, error);
    });
    if (response.ok) return response;
    await response.body?.cancel();
    throw this.refusal(response, new URL(response.url).origin === hub);
  };

  /** An answer of the hub in our words; its kind is in its headers. */
  private refusal({ status, headers, url }: Response, isHub: boolean): GraftError {
    const { endpoint, token } = this.settings;
    const { repo, text } = this.name;
    const [code, said] = [headers.get('x-error-code'), headers.get('x-error-message')];
    const revision = this.name.revision ?? 'main';
    if (!isHub || status >= 500 || status === 429 || status === 416)
      return new HubUnreachableError(`${new URL(url).origin} answered with status ${status}${said === null ? '' : `: ${said}`}.`, text);
    if (code === 'GatedRepo')
      return new HubAccessError(
        `${repo} is gated: its owner gives it only to accounts that accepted its terms.`,
        text,
        `accept the terms at ${endpoint}/${repo}, ${token === null ? 'then set HF_TOKEN to a token of that account' : 'with the account whose token is set'}.`,
      );
    if (status === 403 || (status === 401 && /credential|token/i.test(said ?? '')))
      return new HubAccessError(
        `The hub refuses access${said === null ? '' : `: ${said}`}.`,
        text,
        `set HF_TOKEN to a valid token with access to ${repo} (${endpoint}/settings/tokens), or remove it for a public model.`,
      );
    if (code === 'RevisionNotFound')
      return new HubNotFoundError(
        `${repo} has no revision "${revision}".`,
        text,
        `write a branch, tag or commit of ${endpoint}/${repo}/commits/main.`,
      );
    if (code === 'EntryNotFound')
      return new HubNotFoundError(
        `${repo} has no file "${decodeURIComponent(url.split('/resolve/')[1] ?? url)}".`,
        text,
        `see ${endpoint}/${repo}/tree/${revision}.`,
      );
    return new HubNotFoundError(
      `${endpoint} has no repository "${repo}"${token === null ? ', or it is private' : ' that this token may read'}.`,
      text,
      'check the spelling; for a private repository set HF_TOKEN.',
    );
  }
}
