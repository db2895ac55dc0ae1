import { graftError, kindOf, meantNames, messageOf, nearestText, quotedList } from '@graft/common';
import { type Owner, ownerText } from '@graft/services';

const whoText = (name: string | null): string => (name === null ? 'a plugin without a name' : `plugin "${name}"`);

export class PluginInvalidError extends graftError('GRAFT_PLUGIN_INVALID', (name: string | null, problems: string) => ({
  what: `The declaration of ${whoText(name)} is not valid: ${problems}.`,
  where: whoText(name),
  fix: 'correct the fields named above; definePlugin documents each.',
})) {}

export class RegistrationInvalidError extends graftError('GRAFT_REGISTRATION_INVALID', (call: string, problems: string, owner: Owner) => ({
  what: `ModelRegistry.${call} was given arguments that are not valid: ${problems}.`,
  where: ownerText(owner),
  fix: 'correct the arguments named above.',
})) {}

export class NotAPluginError extends graftError(
  'GRAFT_NOT_A_PLUGIN',
  (
    specifier: string,
    file: string,
    given: unknown,
    named: readonly string[],
    fix: string = 'write `export default definePlugin({ ... })`.',
  ) => ({
    what: `"${specifier}" has no plugin as its default export: ${
      named.length > 0 ? `its export "${named[0]}" is one` : given === undefined ? 'it has no default export' : `that is ${kindOf(given)}`
    }.`,
    where: file,
    fix,
  }),
) {}

export class PluginNotFoundError extends graftError(
  'GRAFT_PLUGIN_NOT_FOUND',
  (specifier: string, from: string, reason: string, fix: string) => ({
    what: `The plugin "${specifier}" cannot be found: ${reason}`,
    where: from,
    fix,
  }),
) {}

export const installTsx = 'install tsx where the plugin is (`npm install --save-dev tsx`), or build the plugin and list its .js file.';

export class TypeScriptNotReadError extends graftError('GRAFT_TYPESCRIPT_NOT_READ', (file: string) => ({
  what: `The plugin is TypeScript, which Node ${process.versions.node} does not run.`,
  where: file,
  fix: installTsx,
})) {}

export class PackageInvalidError extends graftError(
  'GRAFT_PACKAGE_INVALID',
  (file: string, reason: string, fix: string = 'write "graft": { "plugins": ["package-name"] }.') => ({
    what: `package.json cannot be used: ${reason}`,
    where: file,
    fix,
  }),
) {}

export class AppNotFoundError extends graftError('GRAFT_APP_NOT_FOUND', (path: string, near: string) => ({
  what: 'The folder of the application, whose package.json lists the plugins, does not exist.',
  where: path,
  fix: `correct the path in --app (\`app\`)${near}.`,
})) {}

export class UnknownPluginError extends graftError('GRAFT_UNKNOWN_PLUGIN', (unknown: readonly string[], found: readonly string[]) => ({
  what: `The allow list names ${quotedList(unknown, 'nothing', 'and')}, which ${unknown.length === 1 ? 'was' : 'were'} not found.`,
  where: '--allow-plugins or GRAFT_PLUGINS',
  fix: `correct it${nearestText(meantNames(unknown[0]!, found))}; found: ${quotedList(found, 'none', 'and')}.`,
})) {}

export class PluginDuplicateError extends graftError('GRAFT_PLUGIN_DUPLICATE', (first: Owner, second: Owner) => ({
  what: `Two different plugins are named "${first.plugin}".`,
  where: `${ownerText(first)} and ${ownerText(second)}`,
  fix: 'rename one, or load only one.',
})) {}

export class PlatformDuplicateError extends graftError('GRAFT_PLATFORM_DUPLICATE', (platform: string, first: Owner, second: Owner) => ({
  what: `Two plugins bring the platform "${platform}".`,
  where: `${ownerText(first)} and ${ownerText(second)}`,
  fix: 'load only one of them.',
})) {}

export class PluginMissingError extends graftError('GRAFT_PLUGIN_MISSING', (owner: Owner, missing: string, found: readonly string[]) => ({
  what: `It must come after the plugin "${missing}", which is not loaded.`,
  where: ownerText(owner),
  fix: meantNames(missing.replace(/^@[^/]*\//, ''), found)
    .slice(0, 1)
    .map((name) => `write "${name}".`)
    .concat(`load "${missing}" as well (loaded: ${quotedList(found, 'none', 'and')}), or take it out of "after".`)[0],
})) {}

export class PluginCycleError extends graftError('GRAFT_PLUGIN_CYCLE', (cycle: readonly string[]) => ({
  what: `Plugins wait for each other: ${cycle.join(' after ')}.`,
  where: quotedList([...new Set(cycle)], 'none', 'and'),
  fix: 'take one of these names out of an "after".',
})) {}

export class PluginVersionError extends graftError(
  'GRAFT_PLUGIN_VERSION',
  (owner: Owner, who: string, range: string, version: string, valid: boolean) => ({
    what: valid
      ? `${who} works with Graft ${range}, and this is Graft ${version}.`
      : `Its range of Graft versions, "${range}", is not a semver range.`,
    where: ownerText(owner),
    fix: valid ? `install a version of ${owner.plugin} for Graft ${version}, or a Graft of ${range}.` : 'write a range such as "^0.1.0".',
  }),
) {}

export class PluginFailedError extends graftError('GRAFT_PLUGIN_FAILED', (owner: Owner, step: string, cause: unknown) => ({
  what: `The plugin could not be loaded: ${step} threw: ${messageOf(cause)}`,
  where: ownerText(owner),
  fix: 'correct the cause; nothing of the plugin was kept.',
  cause,
})) {}

/** A worker, or another process, has other plugins. */
export class PluginSetsDifferError extends graftError('GRAFT_PLUGIN_SETS_DIFFER', (differences: readonly string[]) => ({
  what: `The set of plugins differs: ${differences.join('; ')}.`,
  where: 'plugin set',
  fix: 'start both with the same specifiers and versions.',
})) {}
