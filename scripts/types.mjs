// Type checks what `tsc -b` does not build: tests, type tests, examples, benchmarks, and every TypeScript block of a README or a page in docs, in one program.
//   node scripts/types.mjs
import { readdirSync, readFileSync } from 'node:fs';
import { dirname, join, sep } from 'node:path';
import { fileURLToPath } from 'node:url';
import ts from 'typescript';

const root = dirname(dirname(fileURLToPath(import.meta.url)));
const docs = join(root, 'docs', sep);
const skipped = new Set(['node_modules', 'dist', '.git', '.cache', 'coverage', 'parity']);

function pagesUnder(folder) {
  return readdirSync(folder, { withFileTypes: true }).flatMap((entry) => {
    if (entry.isDirectory()) return skipped.has(entry.name) ? [] : pagesUnder(join(folder, entry.name));
    const path = join(folder, entry.name);
    return path.endsWith('README.md') || (path.startsWith(docs) && path.endsWith('.md')) ? [path] : [];
  });
}

/** The blocks marked `ts`, as modules next to their page, where its imports resolve. */
const blocks = new Map(
  pagesUnder(root).flatMap((page) => {
    const found = readFileSync(page, 'utf8').matchAll(/^```ts\n([\s\S]*?)^```/gm);
    return [...found].map(([, text], index) => [`${page.slice(0, -'.md'.length)}-block-${index + 1}.ts`, `${text}\nexport {};\n`]);
  }),
);
if (blocks.size === 0) throw new Error('No page has a TypeScript block; at least the READMEs should.');

const { config } = ts.readConfigFile(join(root, 'tsconfig.test.json'), ts.sys.readFile);
const { options, fileNames, errors } = ts.parseJsonConfigFileContent(config, ts.sys, root);
const host = ts.createCompilerHost(options);
const [readFile, fileExists, getSourceFile] = [host.readFile, host.fileExists, host.getSourceFile].map((method) => method.bind(host));
host.readFile = (path) => blocks.get(path) ?? readFile(path);
host.fileExists = (path) => blocks.has(path) || fileExists(path);
host.getSourceFile = (path, target, ...rest) =>
  blocks.has(path) ? ts.createSourceFile(path, blocks.get(path), target) : getSourceFile(path, target, ...rest);

const program = ts.createProgram([...fileNames, ...blocks.keys()], options, host);
const diagnostics = [...errors, ...ts.getPreEmitDiagnostics(program)];
const format = { getCurrentDirectory: () => root, getCanonicalFileName: (name) => name, getNewLine: () => '\n' };
if (diagnostics.length > 0) console.error(ts.formatDiagnostics(diagnostics, format));
process.exitCode = diagnostics.length === 0 ? 0 : 1;
