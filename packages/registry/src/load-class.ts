import { kindOf, messageOf } from '@graft/common';
import { type Owner, ownerText } from '@graft/services';
import { FactoryFailedError, ModuleFailedError, NotAModelClassError, OverrideBaseError, OverrideShapeError } from './errors.ts';
import { importFailure } from './import-failure.ts';
import type { AnyClass, ClassFactory } from './model.ts';
import { isClass, propertiesOf, prototypesOf } from './prototypes.ts';
import type { DeclaredClass, OverrideEntry } from './registration.ts';

/**
 * Imports classes and applies factories. Failures are never kept, so a lazy reference that works the second time is found to work.
 * The class that a factory made of a base is kept: the same two give the same class, because graphs are guarded by the identity of classes.
 */
export class ClassLoader {
  private readonly made = new WeakMap<AnyClass, WeakMap<ClassFactory, AnyClass>>();
  /** Errors seen before: the same error object again means that Node itself keeps the module as failed. */
  private readonly seenFailures = new WeakSet<object>();

  async upstream(target: DeclaredClass): Promise<AnyClass> {
    const what = `The class ${target.name}`;
    return expectClass(await this.import(what, target.owner, target.load), what, target.owner);
  }

  async family({ name, owner, family }: DeclaredClass): Promise<object | null> {
    return family === null ? null : this.import(`The family of ${name}`, owner, family);
  }

  /** A subclass of `Upstream`, or a factory that is not applied yet. */
  async override(entry: OverrideEntry, Upstream: AnyClass): Promise<AnyClass | ClassFactory> {
    const { kind, owner } = entry;
    const what = whatOf(entry);
    const value: unknown = await this.import(what, owner, entry.load as () => Promise<unknown>);
    const isFactory = typeof value === 'function' && !isClass(value);
    if (kind === 'subclass') {
      if (isFactory && value.length === 1)
        throw new NotAModelClassError(what, owner, 'a class factory', 'write `factory` in place of `model`.');
      return expectReplaces(expectClass(value, what, owner), Upstream, entry);
    }
    if (!isFactory) throw new NotAModelClassError(what, owner, value, factoryFix, 'a class factory');
    return value as ClassFactory;
  }

  apply(factory: ClassFactory, Base: AnyClass, entry: OverrideEntry): AnyClass {
    const ofBase = this.made.get(Base) ?? new WeakMap<ClassFactory, AnyClass>();
    this.made.set(Base, ofBase);
    let Made = ofBase.get(factory);
    if (Made === undefined) {
      Made = expectReplaces(made(factory, Base, entry), Base, entry);
      ofBase.set(factory, Made);
    }
    return Made;
  }

  private async import<T>(what: string, owner: Owner, lazy: () => Promise<T>): Promise<T> {
    const wanted = 'a function that gives it';
    if (isClass(lazy)) throw new NotAModelClassError(what, owner, lazy, `give a function: \`async () => ${lazy.name}\`.`, wanted);
    if (lazy.length > 0) throw new NotAModelClassError(what, owner, 'a function with a parameter', factoryFix, wanted);
    try {
      return await lazy();
    } catch (cause) {
      const again = typeof cause === 'object' && cause !== null && this.seenFailures.has(cause);
      if (typeof cause === 'object' && cause !== null) this.seenFailures.add(cause);
      throw new ModuleFailedError(
        what,
        ownerText(owner),
        cause,
        owner.file === null ? null : await importFailure(cause, owner.file),
        again,
      );
    }
  }
}

const factoryFix = 'give a function of the base: `async () => (Base) => class extends Base {}`.';

const whatOf = ({ kind, target }: OverrideEntry): string => `The ${kind} that overrides ${target.name}`;

function made(factory: ClassFactory, Base: AnyClass, entry: OverrideEntry): AnyClass {
  let value: unknown;
  try {
    value = factory(Base as never);
  } catch (cause) {
    throw new FactoryFailedError(entry, `threw for ${Base.name}: ${messageOf(cause)}`, cause);
  }
  if (isClassLike(value)) return value;
  throw new FactoryFailedError(entry, `returned ${kindOf(value)} for ${Base.name}, not a class.`);
}

const isClassLike = (value: unknown): value is AnyClass => typeof value === 'function' && Object(value.prototype) === value.prototype;

function expectClass(value: unknown, what: string, owner: Owner): AnyClass {
  if (isClassLike(value)) return value;
  throw new NotAModelClassError(what, owner, value);
}

/** A replacement extends the class that it replaces, and can be built and called like it. */
function expectReplaces(Class: AnyClass, Base: AnyClass, entry: OverrideEntry): AnyClass {
  if (!(Class.prototype instanceof Base)) throw new OverrideBaseError(entry, Class, Base);
  const expected = { length: Math.max(...prototypesOf(Base).map((one) => (one as AnyClass).length)) }; // one that is inherited counts no parameters
  const problems = Class.length > expected.length ? [parametersText('its constructor', Class, Base.name, expected)] : [];
  const inherited = propertiesOf(Base.prototype);
  for (let at = Class.prototype as object; at !== Base.prototype; at = Object.getPrototypeOf(at) as object) {
    for (const [name, { value }] of Object.entries(Object.getOwnPropertyDescriptors(at))) {
      const replaced: unknown = name === 'constructor' ? undefined : inherited.get(name)?.value;
      if (typeof replaced !== 'function') continue;
      if (typeof value !== 'function' || isClass(value))
        problems.push(`"${name}" is ${isClass(value) ? 'a class' : 'no method'}, and a method of ${Base.name}`);
      else if (value.length > replaced.length) problems.push(parametersText(`"${name}"`, value, Base.name, replaced));
    }
  }
  if (problems.length > 0) throw new OverrideShapeError(entry, Class.name, problems);
  return Class;
}

function parametersText(what: string, { length }: { length: number }, baseName: string, { length: expected }: { length: number }): string {
  return `${what} requires ${length} parameter${length === 1 ? '' : 's'}, and ${expected} in ${baseName}`;
}
