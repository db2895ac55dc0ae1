import { GraftError, graftError, kindOf, messageOf, nearestNames, nearestText, quotedList } from '@graft/common';
import { type Owner, ownerText } from '@graft/services';
import type { ImportFailure } from './import-failure.ts';
import type { AnyClass } from './model.ts';
import type { Platform } from './platform.ts';
import type { RetiredArchitecture } from './plugin.ts';
import { prototypesOf } from './prototypes.ts';
import { type DeclaredClass, type OverrideEntry, qualifiedName } from './registration.ts';
import type { Candidate, Resolution } from './resolution.ts';

export class ArchitectureConflictError extends graftError('GRAFT_ARCHITECTURE_CONFLICT', (name: string, first: Owner, second: Owner) => ({
  what: `${name} is registered twice.`,
  where: `${ownerText(first)} and ${ownerText(second)}`,
  fix: 'register it once; to change how it runs on a platform, override it.',
})) {}

export class RegistrationConflictError extends graftError(
  'GRAFT_REGISTRATION_CONFLICT',
  ({ target, platform, priority, owner }: OverrideEntry, other: OverrideEntry, within: readonly AnyClass[] = []) => ({
    what: `Two overrides of ${target.name} have priority ${priority} on platform "${platform}"${
      within.length === 0 ? '' : `, and both serve at ${within.map(({ name }) => name).join(' > ')}`
    }.`,
    where: owner.plugin === other.owner.plugin ? ownerText(owner) : `${ownerText(owner)} and ${ownerText(other.owner)}`,
    fix: `give one of them a higher priority, other \`modes\` or another \`within\`, or ${
      owner.plugin === other.owner.plugin ? 'take one out' : 'name only one in GRAFT_PLUGINS'
    }.`,
  }),
) {}

export class OverrideWithoutUpstreamError extends graftError(
  'GRAFT_OVERRIDE_WITHOUT_UPSTREAM',
  (declared: string, of: string, owner: Owner, nearest: readonly string[], retired?: RetiredArchitecture) => ({
    what: `${declared} names "${of}", which ${retired === undefined ? 'no loaded plugin declares' : `is retired: ${retired.note}`}.`,
    where: ownerText(owner),
    fix:
      retired?.replacedBy !== undefined
        ? `use "${retired.replacedBy}".`
        : `correct the name${nearestText(nearest)}, or list the plugin that declares it in "after".`,
  }),
) {}

export class TargetAmbiguousError extends graftError(
  'GRAFT_TARGET_AMBIGUOUS',
  (declared: string, of: string, owner: Owner, found: readonly DeclaredClass[]) => ({
    what: `${declared} names "${of}", which ${found.length} plugins declare.`,
    where: ownerText(owner),
    fix: `write ${quotedList(found.map(qualifiedName))}.`,
  }),
) {}

export class TargetModeError extends graftError(
  'GRAFT_TARGET_MODE',
  (declared: string, owner: Owner, mode: string, { name, modes }: Pick<Platform, 'name' | 'modes'>) => ({
    what: `${declared} names mode "${mode}", which platform "${name}" does not have.`,
    where: ownerText(owner),
    fix: `use ${quotedList(nearestNames(mode, modes, 1))}; the platform has ${quotedList(modes, 'none', 'and')}.`,
  }),
) {}

export class CapabilityUnknownError extends graftError('GRAFT_CAPABILITY_UNKNOWN', ({ target, owner }: OverrideEntry, key: string) => ({
  what: `An override of ${target.name} narrows the capability "${key}", which the class does not have.`,
  where: ownerText(owner),
  fix: `name one that it has: ${quotedList(Object.keys(target.capabilities))}.`,
})) {}

export class OverrideConditionError extends graftError(
  'GRAFT_OVERRIDE_CONDITION',
  ({ target, owner }: OverrideEntry, problem: string, cause?: unknown) => ({
    what: `The \`when\` of an override of ${target.name} ${problem}`,
    where: ownerText(owner),
    fix: 'answer true, false or the reason for a refusal; a property of the device may be absent.',
    cause,
  }),
) {}

export class WithoutUnknownError extends graftError('GRAFT_WITHOUT_UNKNOWN', (name: string, nearest: readonly string[]) => ({
  what: `No loaded plugin has a hook or an override named "${name}".`,
  where: '--without',
  fix: `write \`plugin: name\`${nearestText(nearest)}; graft explain lists them.`,
})) {}

export class OverrideUnusedError extends graftError(
  'GRAFT_OVERRIDE_UNUSED',
  ({ target, owner }: OverrideEntry, { reason, detail }: Pick<Candidate, 'reason' | 'detail'>) => ({
    what: `A required override of ${target.name} replaced nothing: ${reason === 'selected' || reason === 'base' ? 'the model builds no such part' : detail}.`,
    where: ownerText(owner),
    fix: 'correct the platform or the scope, override what the model builds (`graft explain` lists it), or leave out `required`.',
  }),
) {
  /** An override is required, and upstream alone serves this resolution. */
  static ofAll({ architecture, candidates, layers }: Resolution): GraftError {
    const all = [...candidates, ...layers.flatMap((layer) => layer.candidates)].filter(({ kind }) => kind !== 'upstream');
    const isBuilt = all.some(({ replaced }) => replaced !== null);
    return new GraftError({
      code: 'GRAFT_OVERRIDE_UNUSED',
      what: isBuilt
        ? `No override replaced anything in ${architecture}, and one is required.`
        : `No override serves ${architecture}, and one is required.`,
      where:
        all
          .map(({ plugin, reason, detail }) => `plugin "${plugin}" [${reason}]: ${detail}${isBuilt ? ', and it replaced nothing' : ''}`)
          .join('; ') || 'no loaded plugin overrides it',
      fix: 'load a plugin that overrides it on this platform, or leave out --require-override.',
    });
  }
}

export class PartUndeclaredError extends graftError('GRAFT_PART_UNDECLARED', ({ name, owner }: DeclaredClass, part: string) => ({
  what: `${name} builds ${part}, which has overrides on this platform, and does not declare that it contains it.`,
  where: ownerText(owner),
  fix: `write \`contains: ['${part}']\` in the declaration of ${name}.`,
})) {}

export class OverrideShapeError extends graftError(
  'GRAFT_OVERRIDE_SHAPE',
  ({ target, owner }: OverrideEntry, className: string, problems: readonly string[]) => ({
    what: `${className} cannot stand in for ${target.name}: ${problems.join('; ')}.`,
    where: ownerText(owner),
    fix: 'take the parameters that upstream takes; further ones need a default.',
  }),
) {}

const loadedText = (plugins: readonly string[]): string => `plugins loaded: ${plugins.join(', ') || 'none'}`;

export class UnknownArchitectureError extends graftError(
  'GRAFT_UNKNOWN_ARCHITECTURE',
  (architectures: readonly string[], nearest: readonly string[], plugins: readonly string[], layer?: DeclaredClass) => ({
    what:
      layer !== undefined
        ? `"${layer.name}" is a declared layer of plugin "${layer.owner.plugin}", not an architecture.`
        : architectures.length === 0
          ? 'No architecture was named.'
          : `No loaded plugin registers ${quotedList(architectures)}.`,
    where: loadedText(plugins),
    fix:
      layer !== undefined
        ? `run \`graft contract ${layer.name}\` for its members, or name an architecture that builds it.`
        : `correct the name${nearestText(nearest)}, or load the plugin that registers it.`,
  }),
) {}

export class RetiredArchitectureError extends graftError(
  'GRAFT_RETIRED_ARCHITECTURE',
  (architecture: string, { note, replacedBy }: RetiredArchitecture, plugins: readonly string[]) => ({
    what: `${architecture} is no longer registered: ${note}`,
    where: loadedText(plugins),
    fix: replacedBy === undefined ? 'follow the note above.' : `use ${replacedBy}.`,
  }),
) {}

/** A lazy reference, or a plugin's module, that could not be imported. `again`: with the same error object as before. */
export class ModuleFailedError extends graftError(
  'GRAFT_MODULE_FAILED',
  (what: string, where: string, cause: unknown, failure: ImportFailure | null, again = false) => ({
    what: `${what} could not be imported: ${failure?.reason ?? messageOf(cause)}`,
    where,
    fix:
      failure?.fix ??
      (again
        ? 'correct the cause and restart the process: Node keeps a module whose evaluation failed as failed.'
        : 'correct the cause; where it lies in the module itself, restart the process, since Node keeps a module whose evaluation failed as failed.'),
    cause,
  }),
) {}

export class NotAModelClassError extends graftError(
  'GRAFT_NOT_A_MODEL_CLASS',
  (what: string, owner: Owner, given: unknown, fix?: string, wanted = 'a class') => ({
    what: `${what} was given as ${typeof given === 'string' ? given : kindOf(given)}, not as ${wanted}.`,
    where: ownerText(owner),
    fix:
      fix ??
      `give the class itself: \`() => import('./model.ts').then((m) => m.MyModel)\`${given === undefined ? '; check the name of the export' : ''}.`,
  }),
) {}

export class FactoryFailedError extends graftError(
  'GRAFT_FACTORY_FAILED',
  ({ target, owner }: OverrideEntry, problem: string, cause?: unknown) => ({
    what: `The factory that overrides ${target.name} ${problem}`,
    where: ownerText(owner),
    fix: 'let it return the class: `async () => (Base) => { return class extends Base {}; }`.',
    cause,
  }),
) {}

export class OverrideBaseError extends graftError(
  'GRAFT_OVERRIDE_BASE',
  ({ kind, target, owner }: OverrideEntry, Class: AnyClass, Base: AnyClass) => {
    const [className, baseName] = [Class.name, Base.name];
    const ofCopy = Class !== Base && prototypesOf(Class).some((one) => (one as AnyClass).name === baseName);
    const extend =
      kind === 'factory'
        ? 'return a class that extends the Base it was given.'
        : `write \`class ${Class === Base ? `My${baseName}` : className} extends ${baseName}\`.`;
    return {
      what:
        Class === Base
          ? `The ${kind} that overrides ${target.name} is ${baseName} itself.`
          : `${className} overrides ${target.name}, but does not extend ${ofCopy ? `this ${baseName}: it extends another class of that name` : baseName}.`,
      where: ownerText(owner),
      fix: ofCopy
        ? `load one copy of the package that has ${baseName}; the plugin imports another than the application, or one of the two is read from sources.`
        : extend,
    };
  },
) {}

/** Whether the constructor's own lines threw, and not those of its base, nor the language for want of `super`. */
function throwsItself(className: string, cause: unknown): boolean {
  const { stack = '', message = '' } = cause instanceof Error ? cause : {};
  return /^\s+at new (\S+)/m.exec(stack)?.[1] === className && !message.includes('super');
}

/** The constructor of a model, or of a part, threw. `within`: the classes under construction, outermost first. */
export class ConstructionFailedError extends graftError(
  'GRAFT_CONSTRUCTION_FAILED',
  (className: string, within: readonly AnyClass[], cause: unknown, overriddenBy?: Owner) => ({
    what: `new ${className} threw: ${messageOf(cause)}`,
    where: `${[...within.map(({ name }) => name), className].join(' > ')}${overriddenBy === undefined ? '' : `, of ${ownerText(overriddenBy)}`}`,
    fix:
      overriddenBy === undefined || throwsItself(className, cause)
        ? 'correct the constructor, or the config that it reads.'
        : 'pass all parameters on first: `super(...)` with those that upstream takes; then correct what the constructor reads.',
    cause,
  }),
) {}
