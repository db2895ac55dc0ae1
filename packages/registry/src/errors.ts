import { GraftError } from '@graft/common';
import type { AnyClass } from './model.ts';
import { nearestNames, quotedList } from './names.ts';
import type { Platform } from './platform.ts';
import type { RetiredArchitecture } from './plugin.ts';
import { type DeclaredClass, type OverrideEntry, type Owner, ownerText, qualifiedName } from './registration.ts';
import type { Candidate, Resolution } from './resolution.ts';

/** Two plugins register one architecture, or one plugin declares a name twice. */
export class ArchitectureConflictError extends GraftError {
  constructor(name: string, first: Owner, second: Owner) {
    super({
      code: 'GRAFT_ARCHITECTURE_CONFLICT',
      what: `${name} is registered twice.`,
      where: `${ownerText(first)} and ${ownerText(second)}`,
      fix: 'register it once; to change how it runs on a platform, override it.',
    });
  }
}

/** Two overrides of one class that could serve in one place have the same priority. */
export class RegistrationConflictError extends GraftError {
  constructor({ target, platform, priority, owner }: OverrideEntry, other: OverrideEntry) {
    super({
      code: 'GRAFT_REGISTRATION_CONFLICT',
      what: `Two overrides of ${target.name} have priority ${priority} on platform "${platform}".`,
      where: `${ownerText(owner)} and ${ownerText(other.owner)}`,
      fix: 'give one of them a higher priority, other `modes` or another `within`, or name only one in GRAFT_PLUGINS.',
    });
  }
}

/** An override, a scope or a hook names a class that no plugin loaded so far declares. */
export class OverrideWithoutUpstreamError extends GraftError {
  constructor(
    declared: string,
    of: string,
    owner: Owner,
    { nearest, retired }: { nearest: readonly string[]; retired: RetiredArchitecture | undefined },
  ) {
    super({
      code: 'GRAFT_OVERRIDE_WITHOUT_UPSTREAM',
      what: `${declared} names "${of}", which ${retired === undefined ? 'no loaded plugin declares' : `is retired: ${retired.note}`}.`,
      where: ownerText(owner),
      fix:
        retired?.replacedBy !== undefined
          ? `use "${retired.replacedBy}".`
          : `correct the name (nearest: ${quotedList(nearest)}), or list the plugin that declares it in "after".`,
    });
  }
}

/** A short name that several plugins declare. */
export class TargetAmbiguousError extends GraftError {
  constructor(declared: string, of: string, owner: Owner, found: readonly DeclaredClass[]) {
    super({
      code: 'GRAFT_TARGET_AMBIGUOUS',
      what: `${declared} names "${of}", which ${found.length} plugins declare.`,
      where: ownerText(owner),
      fix: `write ${quotedList(found.map(qualifiedName))}.`,
    });
  }
}

/** A mode that the platform does not have. */
export class TargetModeError extends GraftError {
  constructor(declared: string, owner: Owner, mode: string, { name, modes }: Pick<Platform, 'name' | 'modes'>) {
    super({
      code: 'GRAFT_TARGET_MODE',
      what: `${declared} names mode "${mode}", which platform "${name}" does not have.`,
      where: ownerText(owner),
      fix: `use ${quotedList(nearestNames(mode, modes, 1))}; the platform has ${quotedList(modes, 'none', 'and')}.`,
    });
  }
}

/** An override narrows a capability that its model does not have. */
export class CapabilityUnknownError extends GraftError {
  constructor({ target, owner }: OverrideEntry, key: string) {
    super({
      code: 'GRAFT_CAPABILITY_UNKNOWN',
      what: `An override of ${target.name} narrows the capability "${key}", which the class does not have.`,
      where: ownerText(owner),
      fix: `name one that it has: ${quotedList(Object.keys(target.capabilities))}.`,
    });
  }
}

/** The `when` of an override threw. */
export class OverrideConditionError extends GraftError {
  constructor({ target, owner }: OverrideEntry, message: string, cause: unknown) {
    super({
      code: 'GRAFT_OVERRIDE_CONDITION',
      what: `The \`when\` of an override of ${target.name} threw: ${message}`,
      where: ownerText(owner),
      fix: 'answer true, false or the reason for a refusal; a property of the device may be absent.',
      cause,
    });
  }
}

/** `--without` names what no loaded plugin has. */
export class WithoutUnknownError extends GraftError {
  constructor(name: string, nearest: readonly string[]) {
    super({
      code: 'GRAFT_WITHOUT_UNKNOWN',
      what: `"${name}" is no hook and no override of a loaded plugin.`,
      where: '--without',
      fix: `write \`plugin: name\`; the nearest: ${quotedList(nearest)}.`,
    });
  }
}

/** An override that must replace something replaced nothing, or only upstream would serve where an override is required. */
export class OverrideUnusedError extends GraftError {
  constructor({ target, owner }: OverrideEntry, { reason, detail }: Pick<Candidate, 'reason' | 'detail'>) {
    super({
      code: 'GRAFT_OVERRIDE_UNUSED',
      what: `A required override of ${target.name} replaced nothing: ${reason === 'selected' || reason === 'base' ? 'the model builds no such part' : detail}.`,
      where: ownerText(owner),
      fix: 'override what the model builds (`graft explain` lists it), or leave out `required`.',
    });
  }

  /** @param resolution of which upstream alone serves. */
  static ofAll({ architecture, candidates, layers }: Resolution): GraftError {
    const all = [...candidates, ...layers.flatMap((layer) => layer.candidates)].filter(({ kind }) => kind !== 'upstream');
    return new GraftError({
      code: 'GRAFT_OVERRIDE_UNUSED',
      what: `No override serves ${architecture}, and one is required.`,
      where:
        all.map(({ plugin, reason, detail }) => `plugin "${plugin}" [${reason}]: ${detail}`).join('; ') || 'no loaded plugin overrides it',
      fix: 'load a plugin that overrides it on this platform, or leave out --require-override.',
    });
  }
}

/** A model builds another one, whose overrides were not loaded. */
export class PartUndeclaredError extends GraftError {
  constructor({ name, owner }: DeclaredClass, part: string) {
    super({
      code: 'GRAFT_PART_UNDECLARED',
      what: `${name} builds ${part}, which has overrides on this platform, and does not say that it contains it.`,
      where: ownerText(owner),
      fix: `write \`contains: ['${part}']\` in the declaration of ${name}.`,
    });
  }
}

/** What replaces a class cannot be built or called as that class. */
export class OverrideShapeError extends GraftError {
  constructor({ target, owner }: OverrideEntry, className: string, problems: readonly string[]) {
    super({
      code: 'GRAFT_OVERRIDE_SHAPE',
      what: `${className} cannot stand in for ${target.name}: ${problems.join('; ')}.`,
      where: ownerText(owner),
      fix: 'take the parameters that upstream takes; further ones need a default.',
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
        ? 'correct the cause and restart the process: Node keeps a module whose evaluation failed as failed.'
        : 'correct the cause; where it lies in the module itself, restart the process, since Node keeps a module whose evaluation failed as failed.',
      cause,
    });
  }
}

/** A lazy reference gave something that is not a class. */
export class NotAModelClassError extends GraftError {
  constructor(what: string, owner: Owner, value: unknown) {
    super({
      code: 'GRAFT_NOT_A_MODEL_CLASS',
      what: `${what} was given as ${value === null ? 'null' : typeof value}, not as a class or a class factory.`,
      where: ownerText(owner),
      fix: "give the class itself: `() => import('./model.ts').then((m) => m.MyModel)`.",
    });
  }
}

/** An override that does not extend the class it overrides. */
export class OverrideBaseError extends GraftError {
  constructor({ kind, target, owner }: OverrideEntry, Class: AnyClass, Base: AnyClass) {
    const [className, baseName] = [Class.name, Base.name];
    const isBase = Class === Base;
    const ofCopy = !isBase && basesOf(Class).some(({ name }) => name === baseName);
    super({
      code: 'GRAFT_OVERRIDE_BASE',
      what: isBase
        ? `The ${kind} that overrides ${target.name} is ${baseName} itself.`
        : `${className} overrides ${target.name}, but does not extend ${ofCopy ? `this ${baseName}: it extends another class of that name` : baseName}.`,
      where: ownerText(owner),
      fix: ofCopy
        ? `load one copy of the package that has ${baseName}; the plugin imports another than the application, or one of the two is read from sources.`
        : kind === 'factory'
          ? 'return a class that extends the Base it was given.'
          : `write \`class ${isBase ? `My${baseName}` : className} extends ${baseName}\`.`,
    });
  }
}

/** A class and all that it extends. */
export function basesOf(Class: AnyClass): AnyClass[] {
  const bases: AnyClass[] = [];
  for (let at: unknown = Class; typeof at === 'function' && at !== Function.prototype; at = Object.getPrototypeOf(at))
    bases.push(at as AnyClass);
  return bases;
}

/** The constructor of a model, or of a part, threw. */
export class ConstructionFailedError extends GraftError {
  /** @param within the classes under construction, outermost first. */
  constructor(className: string, within: readonly AnyClass[], message: string, cause: unknown) {
    super({
      code: 'GRAFT_CONSTRUCTION_FAILED',
      what: `new ${className} threw: ${message}`,
      where: [...within.map(({ name }) => name), className].join(' > '),
      fix: 'correct the constructor, or the config that it reads.',
      cause,
    });
  }
}
