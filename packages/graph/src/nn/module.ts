import { Buffer, Parameter } from './parameter.ts';

/** Declares that a module is captured on its own, once for all instances that its guards cannot tell apart. */
export interface Region {
  readonly name: string;
  /** Names of `forward`'s arguments, for guards and records. */
  readonly inputs: readonly string[];
}

/**
 * The base of everything that has a `forward`. Fields that hold a `Module`, `Parameter` or `Buffer` are its children, under the field's name.
 * A child *lent* from elsewhere (`lendChild`) is visible to `forward` and to guards, not to traversal: it belongs to its owner.
 */
export class Module {
  /** Set by a class whose `forward` is captured once and reused, such as a decoder layer. */
  static readonly region: Region | null = null;

  /** Own children in the order of their fields, without lent ones. */
  *namedChildren(): IterableIterator<[string, Module]> {
    for (const [name, value] of Object.entries(this)) if (value instanceof Module) yield [name, value];
  }

  /** This module (under `prefix`) and all below it, depth first. A module in two places comes once. */
  *namedModules(prefix = '', seen = new Set<Module>()): IterableIterator<[string, Module]> {
    if (seen.has(this)) return;
    seen.add(this);
    yield [prefix, this];
    for (const [name, child] of this.namedChildren()) yield* child.namedModules(joinPath(prefix, name), seen);
  }

  /** Every parameter with its full name. One that two modules share (tied weights) comes once, under its first name. */
  *namedParameters(): IterableIterator<[string, Parameter]> {
    yield* this.fields(Parameter);
  }

  *namedBuffers(): IterableIterator<[string, Buffer]> {
    yield* this.fields(Buffer);
  }

  private *fields<F extends object>(type: abstract new (...args: never[]) => F): IterableIterator<[string, F]> {
    const seen = new Set<F>();
    for (const [prefix, module] of this.namedModules()) {
      for (const [name, value] of Object.entries(module)) {
        if (!(value instanceof type) || seen.has(value)) continue;
        seen.add(value);
        yield [joinPath(prefix, name), value];
      }
    }
  }
}

/** `layers.3` + `self_attn` = `layers.3.self_attn`; the root's path is empty. */
export function joinPath(prefix: string, name: string): string {
  return prefix === '' ? name : name === '' ? prefix : `${prefix}.${name}`;
}

/** Lets `forward` find `child` as `host[name]`, without making it a part of the tree. */
export function lendChild(host: Module, name: string, child: Module): void {
  Object.defineProperty(host, name, { value: child, enumerable: false, configurable: true, writable: true });
}
