// What architecture.test.ts and docs.test.ts read of the repository: its packages, their sources, and what each source says.
import { readdirSync, readFileSync } from 'node:fs';
import { dirname, join, relative, sep } from 'node:path';
import { fileURLToPath } from 'node:url';
import ts from 'typescript';

export const root = dirname(dirname(fileURLToPath(import.meta.url)));

export interface Manifest {
  name: string;
  exports?: Record<string, unknown>;
  dependencies?: Record<string, string>;
  devDependencies?: Record<string, string>;
  peerDependencies?: Record<string, string>;
}

/** A folder under packages/ or examples/ with its package.json. */
export interface Package {
  /** The folder's name: `core-model`. */
  name: string;
  folder: string;
  manifest: Manifest;
}

export interface Source {
  /** From the repository's root, with `/`. */
  path: string;
  text: string;
  isTest: boolean;
  tree: ts.SourceFile;
}

export const readText = (path: string): string => readFileSync(join(root, path), 'utf8');
export const readManifest = (path: string): Manifest => JSON.parse(readText(path)) as Manifest;

/** Files under a folder, as paths from the root; without installed, built or cached ones. */
export function filesUnder(folder: string, matches: RegExp): string[] {
  const skip = new Set(['node_modules', 'dist', '.git', '.cache', 'coverage']);
  const walk = (at: string): string[] =>
    readdirSync(at, { withFileTypes: true }).flatMap((entry) => {
      if (entry.isDirectory()) return skip.has(entry.name) ? [] : walk(join(at, entry.name));
      return matches.test(entry.name) ? [join(at, entry.name)] : [];
    });
  return walk(join(root, folder))
    .map((path) => relative(root, path).split(sep).join('/'))
    .sort();
}

export function packagesIn(group: 'packages' | 'examples'): Package[] {
  const manifests = filesUnder(group, /^package\.json$/).filter((path) => path.split('/').length === 3);
  return manifests.map((path) => ({ name: path.split('/')[1]!, folder: dirname(path), manifest: readManifest(path) }));
}

const cache = new Map<string, Source>();

export function readSource(path: string): Source {
  let source = cache.get(path);
  if (source === undefined) {
    const text = readText(path);
    const isTest = /\.(test|test-d|fixture)\.ts$/.test(path);
    source = { path, text, isTest, tree: ts.createSourceFile(path, text, ts.ScriptTarget.ES2023, true) };
    cache.set(path, source);
  }
  return source;
}

/** The TypeScript and Node modules of a folder; the browser page is plain .js and not among them. */
export const sourcesUnder = (folder: string): Source[] => filesUnder(folder, /\.(ts|mjs)$/).map(readSource);

function visit(node: ts.Node, look: (node: ts.Node) => void): void {
  look(node);
  node.forEachChild((child) => visit(child, look));
}

/** `path:line`, as an editor opens it. */
export function placeOf(source: Source, node: ts.Node): string {
  return `${source.path}:${source.tree.getLineAndCharacterOfPosition(node.getStart(source.tree)).line + 1}`;
}

export interface Import {
  specifier: string;
  place: string;
}

/** Everything a source imports by a literal name: import, export from, `import()`, `import('x').T`, `require`. */
export function importsOf(source: Source): Import[] {
  const found: Import[] = [];
  const add = (node: ts.Node | undefined): void => {
    if (node !== undefined && ts.isStringLiteralLike(node)) found.push({ specifier: node.text, place: placeOf(source, node) });
  };
  visit(source.tree, (node) => {
    if (ts.isImportDeclaration(node) || ts.isExportDeclaration(node)) add(node.moduleSpecifier);
    else if (ts.isImportTypeNode(node)) add(ts.isLiteralTypeNode(node.argument) ? node.argument.literal : undefined);
    else if (ts.isCallExpression(node) && isImportCall(node)) add(node.arguments[0]);
  });
  return found;
}

function isImportCall(node: ts.CallExpression): boolean {
  const callee = node.expression;
  return callee.kind === ts.SyntaxKind.ImportKeyword || (ts.isIdentifier(callee) && callee.text === 'require');
}

/** The package part of a bare specifier: `@graft/cpu/api` -> `@graft/cpu`. */
export function packageOf(specifier: string): string {
  const parts = specifier.split('/');
  return specifier.startsWith('@') ? parts.slice(0, 2).join('/') : parts[0]!;
}

/** Where a source reads `object.member` (or `object.anything` without `member`), as an expression and not in a comment or text. */
export function placesOfAccess(source: Source, object: string, member?: string): string[] {
  const places: string[] = [];
  visit(source.tree, (node) => {
    if (!ts.isPropertyAccessExpression(node) || !ts.isIdentifier(node.expression) || node.expression.text !== object) return;
    if (member === undefined || node.name.text === member) places.push(placeOf(source, node));
  });
  return places;
}

/** Names that begin with GRAFT_ and stand as a whole string or as a property: error codes and environment variables. */
export function graftNamesIn(source: Source): { name: string; place: string }[] {
  const found: { name: string; place: string }[] = [];
  visit(source.tree, (node) => {
    if ((ts.isStringLiteralLike(node) || ts.isIdentifier(node)) && /^GRAFT_[A-Z0-9_]+$/.test(node.text))
      found.push({ name: node.text, place: placeOf(source, node) });
  });
  return found;
}

/** The rows of the first Markdown table under a heading (or of the page), as trimmed cells; without its head. */
export function tableRows(page: string, heading?: string): string[][] {
  const lines = page.split('\n');
  const from = heading === undefined ? 0 : lines.findIndex((line) => /^#+ /.test(line) && line.replace(/^#+ /, '') === heading) + 1;
  if (heading !== undefined && from === 0) throw new Error(`There is no heading "${heading}".`);
  const start = lines.findIndex((line, index) => index >= from && line.startsWith('|'));
  const rows: string[][] = [];
  for (let index = start; start !== -1 && lines[index]?.startsWith('|'); index += 1) rows.push(cellsOf(lines[index]!));
  return rows.slice(2);
}

const cellsOf = (line: string): string[] =>
  line
    .trim()
    .replace(/^\||\|$/g, '')
    .split(/(?<!\\)\|/)
    .map((cell) => cell.trim());

/** The names in back ticks in a cell. */
export const quotedNames = (cell: string): string[] => [...cell.matchAll(/`([^`]+)`/g)].map((match) => match[1]!);
