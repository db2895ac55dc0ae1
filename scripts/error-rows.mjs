// Brings docs/errors.md up to date with the sources: a code that has no row gets one from its `what` and `fix` (or its class's comment), a row whose code is gone is
// dropped, and the rest stays as it was written by hand. `npm test` compares the two; run this when it says that a row is missing.
//   node scripts/error-rows.mjs
import { existsSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import ts from 'typescript';

const root = dirname(dirname(fileURLToPath(import.meta.url)));
const page = join(root, 'docs', 'errors.md');

const isSource = (path) => /\.ts$/.test(path) && !/\.(test|test-d|fixture)\.ts$/.test(path);

function sourceFiles() {
  const folders = ['packages', 'examples'].flatMap((group) => readdirSync(join(root, group)).map((name) => join(root, group, name, 'src')));
  return folders.filter(existsSync).flatMap((folder) =>
    readdirSync(folder, { recursive: true })
      .map((file) => join(folder, String(file)))
      .filter(isSource),
  );
}

/** The words of a string expression; what is filled in when it happens becomes an ellipsis. */
function wordsOf(node) {
  if (node === undefined) return '';
  if (ts.isStringLiteralLike(node)) return node.text;
  if (ts.isTemplateExpression(node)) return node.head.text + node.templateSpans.map(({ literal }) => `…${literal.text}`).join('');
  if (ts.isBinaryExpression(node)) return wordsOf(node.left) + wordsOf(node.right);
  if (ts.isConditionalExpression(node)) return wordsOf(node.whenTrue) || wordsOf(node.whenFalse);
  if (ts.isParenthesizedExpression(node)) return wordsOf(node.expression);
  return '…';
}

const cell = (text) => text.replace(/\s+/g, ' ').replaceAll('|', '\\|').trim();

/** The first sentence of the comment on the class or function around a node. */
function commentAbove(node) {
  for (let at = node.parent; at !== undefined; at = at.parent) {
    if (!ts.isClassDeclaration(at) && !ts.isFunctionDeclaration(at)) continue;
    const comment = ts.getTextOfJSDocComment(ts.getJSDocCommentsAndTags(at).find(ts.isJSDoc)?.comment) ?? '';
    if (comment !== '') return comment.replace(/\s+/g, ' ').match(/^.*?[.;:](?= |$)/)?.[0] ?? comment;
  }
  return '';
}

const isTelling = (words) => words.replace(/[^a-z]/gi, '').length > 8;

/** A `code` may be chosen by a condition; `what` and `fix` then are too. */
const branch = (node, whenTrue) =>
  node !== undefined && ts.isConditionalExpression(node) ? (whenTrue ? node.whenTrue : node.whenFalse) : node;

/** The code of `graftError('GRAFT_...', (...) => ({ what, where, fix }))`, for its object literal. */
function codeOfBase(node) {
  const call = ts.findAncestor(node, (at) => ts.isCallExpression(at) && at.expression.getText() === 'graftError');
  return call?.arguments[0];
}

/** Adds `code -> [what, fix]` for every object literal with a `what` and a `code: 'GRAFT_...'`, or within a `graftError('GRAFT_...', ...)`. */
function collect(node, found) {
  if (ts.isObjectLiteralExpression(node)) {
    const property = (name) => node.properties.find((each) => each.name?.getText() === name);
    const member = (name) => property(name)?.initializer ?? (name === 'code' && property('what') ? codeOfBase(node) : undefined);
    for (const whenTrue of [true, false]) {
      const [code, what, fix] = ['code', 'what', 'fix'].map((name) => wordsOf(branch(member(name), whenTrue)));
      if (!/^GRAFT_[A-Z0-9_]+$/.test(code) || found.has(code)) continue;
      found.set(code, [cell(isTelling(what) ? what : commentAbove(node) || what), isTelling(fix) ? cell(fix) : '']);
    }
  }
  node.forEachChild((child) => collect(child, found));
}

const found = new Map();
for (const path of sourceFiles()) collect(ts.createSourceFile(path, readFileSync(path, 'utf8'), ts.ScriptTarget.ES2023, true), found);
const names = new Set(sourceFiles().flatMap((path) => readFileSync(path, 'utf8').match(/GRAFT_[A-Z0-9_]+/g) ?? []));

const text = readFileSync(page, 'utf8');
const rows = new Map([...text.matchAll(/^\| `(GRAFT_[A-Z0-9_]+)` \|.*$/gm)].map(([row, code]) => [code, row]));
for (const code of rows.keys()) {
  if (!names.has(code)) {
    rows.delete(code);
    console.log(`dropped ${code}`);
  }
}
for (const [code, [what, fix]] of found) {
  if (rows.has(code)) continue;
  rows.set(code, `| \`${code}\` | ${what || 'The message says it.'} | ${fix || 'the message says it, with the values.'} |`);
  console.log(`added ${code}`);
}
const head = text.slice(0, text.indexOf('|---'));
const tail = text.slice(text.indexOf('\n\n', head.length) + 1); // the paragraphs below the table
writeFileSync(
  page,
  `${head}|---|---|---|\n${[...rows]
    .sort(([a], [b]) => (a < b ? -1 : 1))
    .map(([, row]) => row)
    .join('\n')}\n${tail}`,
);
