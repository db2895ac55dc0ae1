import { readFileSync } from 'node:fs';
import { graftError } from './errors.ts';

/** Package name -> the URLs of its index that this process loaded. Of the process, not of this module: this module may be there twice itself. */
const copies = ((globalThis as Record<symbol, unknown>)[Symbol.for('graft.copies')] ??= new Map()) as Map<string, Set<string>>;

export class TwoCopiesError extends graftError('GRAFT_TWO_COPIES', (name: string, found: readonly string[]) => ({
  what: `Two copies of ${name} are loaded: ${found.join(' and ')}. A class or token of one is unknown to the other.`,
  where: name,
  fix: `list ${name} under peerDependencies of the plugin that brings its own, and install again (npm dedupe).`,
})) {}

/** Called by the index of a package of which a process may hold one copy. @param url its `import.meta.url`. */
export function noteCopy(name: string, url: string): void {
  copies.set(name, (copies.get(name) ?? new Set()).add(url));
}

/** @throws TwoCopiesError */
export function requireOneCopy(): void {
  for (const [name, urls] of copies) if (urls.size > 1) throw new TwoCopiesError(name, [...urls].map(versionAndPlace));
}

function versionAndPlace(url: string): string {
  const { version } = JSON.parse(readFileSync(new URL('../package.json', url), 'utf8')) as { version: string };
  return `${version} in ${url}`;
}
