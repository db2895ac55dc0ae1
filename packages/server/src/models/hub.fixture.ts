import { createHash } from 'node:crypto';
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';

/** What a repository of the fixture holds: file contents by path, for each commit. */
export interface FixtureRepository {
  /** By branch or tag. */
  refs: Record<string, string>;
  commits: Record<string, Record<string, Buffer>>;
  gated?: boolean;
}

/** Deviations from a hub in good order. */
export interface Faults {
  /** The next answers of the CDN send so many bytes, then nothing until `cut` breaks the connection; 0 breaks by itself. */
  cuts: number[];
  /** The CDN serves other bytes of the right length. */
  corrupt: boolean;
  /** The CDN answers a range with the whole file. */
  ignoresRanges: boolean;
  /** The CDN sends half of a file, and the rest when this resolves. */
  hold: Promise<void> | null;
  /** Of the tree, in place of the true ones. */
  sizes: Record<string, number>;
  /** In place of any answer. */
  page: { status: number; body: string } | null;
}

export const inGoodOrder = (): Faults => ({ cuts: [], corrupt: false, ignoresRanges: false, hold: null, sizes: {}, page: null });

/**
 * A server on loopback that answers as the Hugging Face hub does: commits, a tree in pages, and files by a redirect, those in LFS to a CDN on another port. Files
 * that end in .gguf or .safetensors are in LFS.
 */
export class FixtureHub {
  readonly repositories = new Map<string, FixtureRepository>();
  /** Every request, such as `GET /org/repo/resolve/main/config.json`; those to the CDN as `CDN SHA256 RANGE`. */
  readonly requests: string[] = [];
  /** The authorization of each request to the CDN that had one. */
  readonly tokensAtCdn: string[] = [];
  /** The one token that opens gated repositories. */
  readonly token = 'hf_fixture';
  faults: Faults = inGoodOrder();
  /** Breaks the connection of the last answer that `faults.cuts` cut short; to be called once its bytes have arrived, since a break drops those on the way. */
  cut: () => void = () => {};
  private readonly hub: Server = createServer((request, response) => this.answer(request, response));
  private readonly cdn: Server = createServer((request, response) => this.serve(request, response));

  async start(port = 0): Promise<this> {
    for (const [server, at] of [[this.hub, port] as const, [this.cdn, 0] as const])
      await new Promise<void>((resolve) => server.listen(at, '127.0.0.1', resolve));
    return this;
  }

  close(): void {
    for (const server of [this.hub, this.cdn]) {
      server.closeAllConnections();
      server.close();
    }
  }

  get url(): string {
    return urlOf(this.hub);
  }

  /** The downloads from the CDN so far. */
  get downloads(): number {
    return this.requests.filter((line) => line.startsWith('CDN')).length;
  }

  /** Adds a commit and points `main` at it. @returns the commit. */
  commit(repo: string, files: Record<string, Buffer | string>, ref = 'main'): string {
    const commit = createHash('sha1')
      .update(repo + JSON.stringify(Object.entries(files).map(([path, content]) => [path, hashOf(path, Buffer.from(content))])))
      .digest('hex');
    const repository = this.repositories.get(repo) ?? { refs: {}, commits: {} };
    repository.refs[ref] = commit;
    repository.commits[commit] = Object.fromEntries(Object.entries(files).map(([path, content]) => [path, Buffer.from(content)]));
    this.repositories.set(repo, repository);
    return commit;
  }

  private answer(request: IncomingMessage, response: ServerResponse) {
    const url = new URL(request.url!, this.url);
    this.requests.push(`${request.method} ${decodeURIComponent(url.pathname)}`);
    if (this.faults.page !== null) {
      response.writeHead(this.faults.page.status, { 'content-type': 'text/html' }).end(this.faults.page.body);
      return;
    }
    const [, api, repo, kind, rest] =
      /^(\/api\/models|\/api\/resolve-cache\/models)?\/([^/]+\/[^/]+)\/(revision|tree|resolve|[0-9a-f]{40})\/(.+)$/.exec(
        decodeURIComponent(url.pathname),
      ) ?? [];
    const authorization = request.headers.authorization;
    const refuse = (status: number, code: string, message = code) => {
      response.writeHead(status, { 'x-error-code': code, 'x-error-message': message, 'content-type': 'application/json' });
      response.end(JSON.stringify({ error: message }));
    };
    if (authorization !== undefined && authorization !== `Bearer ${this.token}`)
      return refuse(401, '', 'Invalid credentials in Authorization header');
    const repository = this.repositories.get(repo ?? '');
    if (repository === undefined) return refuse(authorization === undefined ? 401 : 404, 'RepoNotFound', 'Repository not found');
    if (kind === 'revision' || kind === 'tree') {
      const commit = repository.refs[rest!] ?? rest!;
      const files = repository.commits[commit];
      if (files === undefined) return refuse(404, 'RevisionNotFound', `Invalid rev id: ${rest}`);
      response.setHeader('content-type', 'application/json');
      if (kind === 'tree') return this.tree(url, files, response);
      const siblings = Object.keys(files).map((rfilename) => ({ rfilename }));
      response.end(JSON.stringify({ _id: '1', id: repo, sha: commit, siblings, gated: repository.gated ?? false, private: false }));
      return;
    }
    const isCached = api === '/api/resolve-cache/models';
    const [, revision, path] = isCached ? [null, kind!, rest!] : (/^(refs\/pr\/\d+|[^/]+)\/(.+)$/.exec(rest ?? '') ?? []);
    const commit = repository.refs[revision ?? ''] ?? revision ?? '';
    if (repository.commits[commit] === undefined) return refuse(404, 'RevisionNotFound', `Invalid rev id: ${revision}`);
    if (repository.gated === true && authorization === undefined) return refuse(401, 'GatedRepo', `Access to model ${repo} is restricted.`);
    const content = repository.commits[commit][path!];
    if (content === undefined) return refuse(404, 'EntryNotFound', 'Entry not found');
    const hash = hashOf(path!, content);
    const headers = { 'x-repo-commit': commit, 'x-linked-size': content.length, 'x-linked-etag': `"${hash}"`, etag: `"${hash}"` };
    if (isCached)
      response.writeHead(200, { ...headers, 'content-length': content.length }).end(request.method === 'HEAD' ? undefined : content);
    else if (isLfs(path!)) response.writeHead(302, { ...headers, location: `${urlOf(this.cdn)}/${hash}?signed` }).end();
    else response.writeHead(307, { ...headers, location: `/api/resolve-cache/models/${repo}/${commit}/${path}` }).end();
  }

  /** Two entries a page. */
  private tree(url: URL, files: Record<string, Buffer>, response: ServerResponse): void {
    const from = Number(url.searchParams.get('cursor') ?? 0);
    const folders = [...new Set(Object.keys(files).flatMap((path) => path.split('/').slice(0, -1).slice(0, 1)))];
    const entries = [
      ...folders.map((path) => ({ type: 'directory', oid: '0'.repeat(40), size: 0, path })),
      ...Object.entries(files).map(([path, content]) => {
        const size = this.faults.sizes[path] ?? content.length;
        const hash = hashOf(path, content);
        const lfs = isLfs(path) ? { lfs: { oid: hash, size, pointerSize: 134 } } : {};
        return { type: 'file', oid: isLfs(path) ? '1'.repeat(40) : hash, size, path, ...lfs };
      }),
    ];
    url.searchParams.set('cursor', String(from + 2));
    if (from + 2 < entries.length) response.setHeader('link', `<${url.href}>; rel="next"`);
    response.end(JSON.stringify(entries.slice(from, from + 2)));
  }

  private serve(request: IncomingMessage, response: ServerResponse): void {
    const hash = request.url!.slice(1).split('?')[0]!;
    this.requests.push(`CDN ${hash.slice(0, 8)} ${request.headers.range ?? 'whole'}`);
    if (request.headers.authorization !== undefined) this.tokensAtCdn.push(request.headers.authorization);
    const all = [...this.repositories.values()].flatMap(({ commits }) => Object.values(commits).flatMap((files) => Object.entries(files)));
    let content = all.find(([path, bytes]) => hashOf(path, bytes) === hash)![1];
    if (this.faults.corrupt) content = Buffer.alloc(content.length, 'x');
    const from = this.faults.ignoresRanges ? 0 : Number(/^bytes=(\d+)-/.exec(request.headers.range ?? '')?.[1] ?? 0);
    const body = content.subarray(from);
    const range = from > 0 ? { 'content-range': `bytes ${from}-${content.length - 1}/${content.length}` } : {};
    response.writeHead(from > 0 ? 206 : 200, { 'content-length': body.length, 'accept-ranges': 'bytes', etag: `"${hash}"`, ...range });
    const cut = this.faults.cuts.shift();
    const { hold } = this.faults;
    if (request.method === 'HEAD') response.end();
    else if (hold !== null)
      response.write(body.subarray(0, body.length / 2), () => void hold.then(() => response.end(body.subarray(body.length / 2))));
    else if (cut === undefined) response.end(body);
    else {
      response.flushHeaders();
      this.cut = () => response.destroy();
      if (cut === 0) this.cut();
      else response.write(body.subarray(0, cut));
    }
  }
}

function urlOf(server: Server): string {
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
}

const isLfs = (path: string): boolean => /\.(gguf|safetensors)$/.test(path);

function hashOf(path: string, content: Buffer): string {
  return isLfs(path)
    ? createHash('sha256').update(content).digest('hex')
    : createHash('sha1').update(`blob ${content.length}\0`).update(content).digest('hex');
}
