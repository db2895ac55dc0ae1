import { basename, dirname, resolve } from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { meantNames, messageOf, quotedList } from '@graft/common';
import { moduleResolve } from 'import-meta-resolve';
import { conditions, findPackageFile, inFolder, readPackage } from './discover.ts';
import { installTsx } from './plugin-errors.ts';
import { isTypeScript, stripsTypes } from './typescript.ts';

/** What an import error means. */
export interface ImportFailure {
  readonly reason: string;
  /** Undefined where the module itself threw. */
  readonly fix: string | undefined;
}

/** What an error of importing `module` (a file URL) means, judged by its cause. */
export async function importFailure(cause: unknown, module: string): Promise<ImportFailure> {
  const { code } = cause as { code?: unknown };
  const reason = messageOf(cause);
  const file = fileURLToPath(module);
  const asCommonJs = notAModule(file);
  const isImportInCommonJs = code === 'ERR_REQUIRE_CYCLE_MODULE' || /Cannot use import statement|Unexpected token 'export'/.test(reason);
  if (isImportInCommonJs && asCommonJs !== null) return asCommonJs;
  if (/is not defined in ES module scope/.test(reason))
    return { reason: reason.split('\n', 1)[0]!, fix: 'write import and export, or name a file of require and exports ".cjs".' };
  const isUnstripped = code === 'ERR_UNSUPPORTED_TYPESCRIPT_SYNTAX' || reason === 'Invalid or unexpected token';
  if (isTypeScript(file) && stripsTypes() && isUnstripped)
    return {
      reason: `Node removes types only, and does not run decorators, enums or parameter properties (${reason}).`,
      fix: installTsx,
    };
  return { reason, fix: await linkFix(cause as { code?: unknown }, reason, file) };
}

/** The correction of an import that Node could not link. */
async function linkFix({ code }: { code?: unknown }, reason: string, file: string): Promise<string | undefined> {
  const [, missing] = /Cannot find package '([^']+)'/.exec(reason) ?? [];
  if (missing !== undefined) return `install "${missing}", or correct its name.`;
  const [, path] = /Cannot find module '([^']+)'/.exec(reason) ?? [];
  if (path !== undefined && code === 'ERR_MODULE_NOT_FOUND') return `correct the import${inFolder(resolve(dirname(file), path))}.`;
  if (code === 'ERR_PACKAGE_PATH_NOT_EXPORTED') return 'import from the package itself, or from a path that its `exports` has.';
  const [, from, name] = /The requested module '([^']+)' does not provide an export named '([^']+)'/.exec(reason) ?? [];
  if (from === undefined || name === undefined) return undefined;
  const resolved = async () => moduleResolve(from, pathToFileURL(file), conditions).href; // a path of another module's import may not resolve
  const found = await resolved()
    .then((url) => import(/* @vite-ignore */ url))
    .then(Object.keys, () => []);
  const meant = meantNames(name, found);
  if (meant.length > 0) return `import ${quotedList(meant)} from ${from}.`;
  return isTypeScript(file)
    ? `write \`import type { ${name} }\` if it is a type; otherwise correct the name.`
    : `correct the name of the import from ${from}.`;
}

/** The failure of a file with `import` or `export` that Node reads as CommonJS; null where Node reads it as a module. */
function notAModule(file: string): ImportFailure | null {
  const packageFile = findPackageFile(dirname(file));
  const [, extension] = /\.([jt]sx?)$/.exec(file) ?? [];
  if (packageFile === null || extension === undefined || readPackage(packageFile).type === 'module') return null;
  const name = basename(file).replace(/\.([jt])sx?$/, '.m$1s');
  return {
    reason: `it is read as CommonJS, because ${packageFile} has no "type": "module".`,
    fix: `write "type": "module" in that package.json, or name the file ${name}.`,
  };
}
