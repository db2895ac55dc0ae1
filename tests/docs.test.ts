// The pages say what the code does: every code and variable has its row and the reverse, links lead somewhere. That the TypeScript in READMEs compiles
// is part of `npm test -- types` (scripts/types.mjs), which has the program already.
import { existsSync, statSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { filesUnder, graftNamesIn, packagesIn, quotedNames, readText, root, sourcesUnder, tableRows } from './sources.ts';

const sourceFolders = [...packagesIn('packages').map(({ folder }) => `${folder}/src`), 'examples'];
const shipped = sourceFolders.flatMap(sourcesUnder).filter(({ isTest }) => !isTest);
const used = new Map(shipped.flatMap(graftNamesIn).map(({ name, place }) => [name, place]));
const errorRows = tableRows(readText('docs/errors.md'));
const codes = errorRows.map(([code]) => quotedNames(code!)[0]!);
const variables = tableRows(readText('docs/env.md')).map(([name]) => quotedNames(name!)[0]!);
const graftVariables = variables.filter((name) => name.startsWith('GRAFT_'));

test('every error code and GRAFT_ variable in the sources has a row in docs/errors.md or docs/env.md', () => {
  const known = new Set([...codes, ...graftVariables]);
  const missing = [...used].filter(([name]) => !known.has(name)).map(([name, place]) => `${name} (${place})`);
  expect(missing).toEqual([]);
});

test('every row of docs/errors.md and every GRAFT_ row of docs/env.md is in the sources', () => {
  expect([...codes, ...graftVariables].filter((name) => !used.has(name))).toEqual([]);
});

test('docs/errors.md has one complete row a code, in alphabetical order', () => {
  expect(codes).toEqual([...new Set(codes)].sort());
  expect(errorRows.filter((cells) => cells.length !== 3 || cells.some((cell) => cell === ''))).toEqual([]);
});

test('every error of the registry and of services stands at a step of docs/override-path.md and of the package page', () => {
  const ofRegistry = shipped.filter(({ path }) => /^packages\/(registry|services)\/src\//.test(path)).flatMap(graftNamesIn);
  const expected = [...new Set(ofRegistry.map(({ name }) => name))].filter((name) => codes.includes(name));
  expect(expected.length).toBeGreaterThan(40);
  for (const page of ['docs/override-path.md', 'packages/registry/README.md']) {
    const named = new Set(readText(page).match(/GRAFT_[A-Z_]+/g));
    expect(expected.filter((code) => !named.has(code)).map((code) => `${code} is not in ${page}`)).toEqual([]);
  }
});

test('every promise of docs/promises.md is held by a test of the title that it names', () => {
  const promises = readText('docs/promises.md').split(/^- /m).slice(1);
  expect(promises.length).toBeGreaterThan(30);
  const held = promises.map((text) => [...text.replace(/\s+/g, ' ').matchAll(/\[([^\]]+)\]\(\.\.\/([^)]+)\)/g)]);
  expect(held.filter((tests) => tests.length === 0)).toEqual([]);
  const missing = held.flat().flatMap(([, title = '', path = '']) => {
    const text = existsSync(join(root, path)) ? readText(path) : '';
    return ["'", '"', '`'].some((quote) => text.includes(quote + title + quote)) ? [] : [`${path}: ${title}`];
  });
  expect(missing).toEqual([]);
});

const pages = filesUnder('.', /\.md$/).filter((path) => !path.startsWith('tests/parity/'));

test('a page names only codes and variables that exist', () => {
  const named = pages.flatMap((page) => [...readText(page).matchAll(/\bGRAFT_[A-Z0-9_]+\b/g)].map(([name]) => ({ page, name })));
  const known = new Set([...codes, ...graftVariables]);
  expect(named.filter(({ name }) => !known.has(name))).toEqual([]);
});

describe.each(pages)('%s', (page) => {
  test('has links that lead to a file and a heading that exist', () => {
    expect(brokenLinks(page)).toEqual([]);
  });
});

const withoutCode = (text: string): string => text.replace(/^```[\s\S]*?^```/gm, '').replace(/`[^`\n]*`/g, '');

function brokenLinks(page: string): string[] {
  const targets = [...withoutCode(readText(page)).matchAll(/\]\(([^)\s]+)\)/g)].map((match) => match[1]!);
  return targets.filter((target) => !/^[a-z]+:/.test(target) && !resolves(page, target));
}

function resolves(page: string, target: string): boolean {
  const [path, anchor] = target.split('#');
  const file = path === '' ? page : join(dirname(page), path!);
  if (!existsSync(join(root, file))) return false;
  return anchor === undefined || (statSync(join(root, file)).isFile() && anchorsOf(file).includes(anchor));
}

/** Headings as GitHub makes anchors of them. */
function anchorsOf(page: string): string[] {
  const headings = readText(page).matchAll(/^#+ (.+)$/gm);
  return [...headings].map(([, text]) =>
    text!
      .toLowerCase()
      .replace(/[^\p{L}\p{N} _-]/gu, '')
      .replaceAll(' ', '-'),
  );
}
