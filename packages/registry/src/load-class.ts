import { messageOf } from '@graft/common';
import { ModuleFailedError, NotAModelClassError, OverrideBaseError } from './errors.ts';
import type { ClassFactory, ModelClass } from './model.ts';
import { type OverrideEntry, ownerText, type Registration, type UpstreamEntry } from './registration.ts';

/**
 * Imports classes and applies factories. Failures are never kept, so a lazy reference that works the second time is found to work.
 * What is kept is the class that a factory made of a base: the same two give the same class, since a class is an identity that graphs are guarded by.
 */
export class ClassLoader {
  private readonly made = new WeakMap<ModelClass, WeakMap<ClassFactory, ModelClass>>();
  /** Errors seen before: the same error object again means that Node itself keeps the module as failed. */
  private readonly seenFailures = new WeakSet<object>();

  /** The classes of a chain, upstream first. */
  async load(upstream: UpstreamEntry, chain: readonly Registration[]): Promise<ModelClass[]> {
    const classes: ModelClass[] = [];
    for (const entry of chain) {
      const below = classes.at(-1);
      classes.push(
        below === undefined || entry.kind === 'upstream' ? await this.upstream(upstream) : await this.override(entry, classes[0]!, below),
      );
    }
    return classes;
  }

  private async upstream(entry: UpstreamEntry): Promise<ModelClass> {
    return expectClass(await this.import(entry, entry.model), entry);
  }

  private async override(entry: OverrideEntry, upstream: ModelClass, below: ModelClass): Promise<ModelClass> {
    if (entry.kind === 'subclass') return expectExtends(expectClass(await this.import(entry, entry.model), entry), upstream, entry);
    const factory = await this.import(entry, entry.factory);
    if (typeof factory !== 'function') throw new NotAModelClassError(entry, factory);
    return this.apply(factory, below, entry);
  }

  private apply(factory: ClassFactory, Base: ModelClass, entry: OverrideEntry): ModelClass {
    const ofBase = this.made.get(Base) ?? new WeakMap<ClassFactory, ModelClass>();
    this.made.set(Base, ofBase);
    let Made = ofBase.get(factory);
    if (Made === undefined) {
      Made = expectExtends(expectClass(factory(Base as never), entry), Base, entry);
      ofBase.set(factory, Made);
    }
    return Made;
  }

  private async import<T>(entry: Registration, lazy: () => Promise<T>): Promise<T> {
    try {
      return await lazy();
    } catch (cause) {
      const again = typeof cause === 'object' && cause !== null && this.seenFailures.has(cause);
      if (typeof cause === 'object' && cause !== null) this.seenFailures.add(cause);
      const what = `The ${entry.kind} of ${entry.architecture} could not be imported`;
      throw new ModuleFailedError({ what, where: ownerText(entry.owner), cause, message: messageOf(cause), again });
    }
  }
}

function expectClass(value: unknown, entry: Registration): ModelClass {
  if (typeof value === 'function' && typeof value.prototype === 'object' && value.prototype !== null) return value as ModelClass;
  throw new NotAModelClassError(entry, value);
}

function expectExtends(Class: ModelClass, Base: ModelClass, entry: OverrideEntry): ModelClass {
  if (Class.prototype instanceof Base) return Class;
  throw new OverrideBaseError(entry, Class, Base);
}
