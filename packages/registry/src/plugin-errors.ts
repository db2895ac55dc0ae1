import { GraftError } from '@graft/common';
import { nearestNames, quotedList } from './names.ts';
import { type Owner, ownerText } from './registration.ts';

/** A declaration that does not say what a plugin must say. */
export class PluginInvalidError extends GraftError {
  constructor(name: string | null, issues: readonly string[], file?: string) {
    const who = name === null ? 'a plugin without a name' : `plugin "${name}"`;
    super({
      code: 'GRAFT_PLUGIN_INVALID',
      what: `The declaration of ${who} is not valid: ${issues.join('; ')}.`,
      where: file === undefined ? who : `${who} (${file})`,
      fix: 'correct the fields named above; definePlugin documents each.',
    });
  }
}

/** Arguments that the registry cannot take. */
export class RegistrationInvalidError extends GraftError {
  constructor(call: string, issues: readonly string[], owner: Owner) {
    super({
      code: 'GRAFT_REGISTRATION_INVALID',
      what: `ModelRegistry.${call} was given arguments that are not valid: ${issues.join('; ')}.`,
      where: ownerText(owner),
      fix: 'correct the arguments named above.',
    });
  }
}

/** A module that should be a plugin and exports none. */
export class NotAPluginError extends GraftError {
  constructor(specifier: string, file: string) {
    super({
      code: 'GRAFT_NOT_A_PLUGIN',
      what: `"${specifier}" has no plugin as its default export.`,
      where: file,
      fix: 'write `export default definePlugin({ ... })` in the module that the package exports.',
    });
  }
}

/** A specifier that leads nowhere. */
export class PluginNotFoundError extends GraftError {
  constructor(specifier: string, from: string, reason: string, known: readonly string[] = []) {
    super({
      code: 'GRAFT_PLUGIN_NOT_FOUND',
      what: `The plugin "${specifier}" cannot be found: ${reason}`,
      where: from,
      fix: `install the package there, or correct its name${known.length === 0 ? '' : ` (nearest of the dependencies there: ${quotedList(nearestNames(specifier, known))})`}; the package needs an \`exports\` entry that Node can resolve (a \`default\` condition).`,
    });
  }
}

/** A package.json whose `graft` field cannot be read. */
export class PackageInvalidError extends GraftError {
  constructor(file: string, reason: string) {
    super({
      code: 'GRAFT_PACKAGE_INVALID',
      what: `package.json cannot be used: ${reason}`,
      where: file,
      fix: 'write "graft": { "plugins": ["package-name"] }.',
    });
  }
}

/** The allow list names a plugin that was not found. */
export class UnknownPluginError extends GraftError {
  constructor(unknown: readonly string[], found: readonly string[]) {
    super({
      code: 'GRAFT_UNKNOWN_PLUGIN',
      what: `The allow list names ${quotedList(unknown, 'nothing', 'and')}, which ${unknown.length === 1 ? 'was' : 'were'} not found.`,
      where: 'GRAFT_PLUGINS',
      fix: `correct it (nearest: ${quotedList(nearestNames(unknown[0]!, found))}; found: ${quotedList(found, 'none', 'and')}).`,
    });
  }
}

/** Two different plugins under one name. */
export class PluginDuplicateError extends GraftError {
  constructor(first: Owner, second: Owner) {
    super({
      code: 'GRAFT_PLUGIN_DUPLICATE',
      what: `Two different plugins are named "${first.plugin}".`,
      where: `${ownerText(first)} and ${ownerText(second)}`,
      fix: 'rename one, or load only one.',
    });
  }
}

/** Two plugins bring a platform of the same name. */
export class PlatformDuplicateError extends GraftError {
  constructor(platform: string, first: Owner, second: Owner) {
    super({
      code: 'GRAFT_PLATFORM_DUPLICATE',
      what: `Two plugins bring the platform "${platform}".`,
      where: `${ownerText(first)} and ${ownerText(second)}`,
      fix: 'load only one of them.',
    });
  }
}

/** `after` names a plugin that is not loaded. */
export class PluginMissingError extends GraftError {
  constructor(owner: Owner, missing: string, found: readonly string[]) {
    super({
      code: 'GRAFT_PLUGIN_MISSING',
      what: `It must come after the plugin "${missing}", which is not loaded.`,
      where: ownerText(owner),
      fix: `load "${missing}" as well (loaded: ${quotedList(found, 'none', 'and')}), or take it out of "after".`,
    });
  }
}

/** `after` goes round in a circle. */
export class PluginCycleError extends GraftError {
  constructor(cycle: readonly string[]) {
    super({
      code: 'GRAFT_PLUGIN_CYCLE',
      what: `Plugins wait for each other: ${cycle.join(' after ')}.`,
      where: quotedList([...new Set(cycle)], 'none', 'and'),
      fix: 'take one of these names out of an "after".',
    });
  }
}

/** A plugin made for another version of Graft. */
export class PluginVersionError extends GraftError {
  constructor(owner: Owner, range: string, version: string, valid: boolean) {
    super({
      code: 'GRAFT_PLUGIN_VERSION',
      what: valid
        ? `It works with Graft ${range}, and this is Graft ${version}.`
        : `Its range of Graft versions, "${range}", is not a semver range.`,
      where: ownerText(owner),
      fix: valid ? 'install versions of the two that fit.' : 'write a range such as "^0.1.0".',
    });
  }
}

/** A step of loading a plugin threw. Nothing of the plugin stays. */
export class PluginFailedError extends GraftError {
  constructor(owner: Owner, step: string, message: string, cause: unknown) {
    super({
      code: 'GRAFT_PLUGIN_FAILED',
      what: `The plugin could not be loaded: ${step} threw: ${message}`,
      where: ownerText(owner),
      fix: 'mend the cause; nothing of the plugin was kept.',
      cause,
    });
  }
}

/** A worker, or another process, has other plugins. */
export class PluginSetsDifferError extends GraftError {
  constructor(differences: readonly string[]) {
    super({
      code: 'GRAFT_PLUGIN_SETS_DIFFER',
      what: `The set of plugins differs: ${differences.join('; ')}.`,
      where: 'plugin set',
      fix: 'start both with the same specifiers and versions.',
    });
  }
}
