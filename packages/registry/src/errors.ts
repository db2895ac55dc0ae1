import { GraftError } from '@graft/common';
import type { ModelClass } from './model.ts';
import { quotedList } from './names.ts';
import type { RetiredArchitecture } from './plugin.ts';
import { type Owner, ownerText, type Registration } from './registration.ts';

/** Two upstream classes for one architecture. */
export class ArchitectureConflictError extends GraftError {
  constructor(architecture: string, first: Owner, second: Owner) {
    super({
      code: 'GRAFT_ARCHITECTURE_CONFLICT',
      what: `${architecture} is registered twice.`,
      where: `${ownerText(first)} and ${ownerText(second)}`,
      fix: 'register it once; to change how it runs on a platform, override it.',
    });
  }
}

/** Two overrides of equal priority for one architecture and platform. */
export class RegistrationConflictError extends GraftError {
  constructor({
    architecture,
    platform,
    priority,
    owners,
  }: { architecture: string; platform: string; priority: number; owners: readonly [Owner, Owner] }) {
    super({
      code: 'GRAFT_REGISTRATION_CONFLICT',
      what: `Two overrides of ${architecture} have priority ${priority} on platform "${platform}".`,
      where: `${ownerText(owners[0])} and ${ownerText(owners[1])}`,
      fix: 'give one of them a higher priority, or name only one in GRAFT_PLUGINS.',
    });
  }
}

/** An override, or a hook, for an architecture that no plugin loaded so far registers. */
export class OverrideWithoutUpstreamError extends GraftError {
  constructor(architecture: string, owner: Owner, nearest: readonly string[], declared = 'An override') {
    super({
      code: 'GRAFT_OVERRIDE_WITHOUT_UPSTREAM',
      what: `${declared} names the architecture ${architecture}, which nothing registers.`,
      where: ownerText(owner),
      fix: `correct the name (nearest: ${quotedList(nearest)}), or list the plugin that registers it in "after".`,
    });
  }
}

interface KnownArchitectures {
  nearest: readonly string[];
  retired: ReadonlyMap<string, RetiredArchitecture>;
  plugins: readonly string[];
}

/** None of the names in a config.json is registered. */
export class UnknownArchitectureError extends GraftError {
  constructor(architectures: readonly string[], { nearest, plugins }: KnownArchitectures) {
    super({
      code: 'GRAFT_UNKNOWN_ARCHITECTURE',
      what: architectures.length === 0 ? 'No architecture was named.' : `No loaded plugin registers ${quotedList(architectures)}.`,
      where: `plugins loaded: ${plugins.length === 0 ? 'none' : plugins.join(', ')}`,
      fix: `use one of the nearest names (${quotedList(nearest)}), or load the plugin that registers it.`,
    });
  }
}

/** The names in a config.json were retired or have moved. */
export class RetiredArchitectureError extends GraftError {
  constructor(architecture: string, { note, replacedBy }: RetiredArchitecture, plugins: readonly string[]) {
    super({
      code: 'GRAFT_RETIRED_ARCHITECTURE',
      what: `${architecture} is no longer registered: ${note}`,
      where: `plugins loaded: ${plugins.length === 0 ? 'none' : plugins.join(', ')}`,
      fix: replacedBy === undefined ? 'follow the note above.' : `use ${replacedBy}.`,
    });
  }
}

/** The first retired name explains most; without one, the names are unknown. */
export function architectureError(architectures: readonly string[], facts: KnownArchitectures): GraftError {
  for (const architecture of architectures) {
    const retired = facts.retired.get(architecture);
    if (retired !== undefined) return new RetiredArchitectureError(architecture, retired, facts.plugins);
  }
  return new UnknownArchitectureError(architectures, facts);
}

/** A lazy reference, or a plugin's module, that could not be imported. */
export class ModuleFailedError extends GraftError {
  constructor({ what, where, cause, message, again }: { what: string; where: string; cause: unknown; message: string; again: boolean }) {
    super({
      code: 'GRAFT_MODULE_FAILED',
      what: `${what}: ${message}`,
      where,
      fix: again
        ? 'mend the cause and restart the process: Node keeps a module whose evaluation failed as failed.'
        : 'mend the cause; where it lies in the module itself, restart the process, since Node keeps a module whose evaluation failed as failed.',
      cause,
    });
  }
}

/** A lazy reference gave something that is not a class. */
export class NotAModelClassError extends GraftError {
  constructor(entry: Registration, value: unknown) {
    super({
      code: 'GRAFT_NOT_A_MODEL_CLASS',
      what: `The ${entry.kind} of ${entry.architecture} gave ${value === null ? 'null' : typeof value}, not a ${entry.kind === 'factory' ? 'class factory or a class' : 'class'}.`,
      where: ownerText(entry.owner),
      fix: "give the class itself: `() => import('./model.ts').then((m) => m.MyModel)`.",
    });
  }
}

/** An override that does not extend the class it overrides. */
export class OverrideBaseError extends GraftError {
  constructor(entry: Registration, Class: ModelClass, Base: ModelClass) {
    const [className, baseName] = [Class.name, Base.name];
    const isBase = Class === Base;
    const ofCopy = !isBase && basesOf(Class).includes(baseName);
    super({
      code: 'GRAFT_OVERRIDE_BASE',
      what: isBase
        ? `The ${entry.kind} that overrides ${entry.architecture} is ${baseName} itself.`
        : `${className} overrides ${entry.architecture}, but does not extend ${ofCopy ? `this ${baseName}: it extends another class of that name` : baseName}.`,
      where: ownerText(entry.owner),
      fix: ofCopy
        ? `load one copy of the package that has ${baseName}; the plugin imports another than the application, or one of the two is read from sources.`
        : entry.kind === 'factory'
          ? 'return a class that extends the Base it was given.'
          : `write \`class ${isBase ? `My${baseName}` : className} extends ${baseName}\`.`,
    });
  }
}

/** Names of a class and of all that it extends. */
function basesOf(Class: ModelClass): string[] {
  const names: string[] = [];
  for (let at: unknown = Class; typeof at === 'function' && at !== Function.prototype; at = Object.getPrototypeOf(at)) names.push(at.name);
  return names;
}

/** A model's constructor threw. */
export class ConstructionFailedError extends GraftError {
  constructor(className: string, message: string, cause: unknown) {
    super({
      code: 'GRAFT_CONSTRUCTION_FAILED',
      what: `new ${className}(context) threw: ${message}`,
      where: `class ${className}`,
      fix: 'mend the constructor, or the config that it reads.',
      cause,
    });
  }
}
