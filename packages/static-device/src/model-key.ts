import { createHash, type Hash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { cpus } from 'node:os';
import { messageOf } from '@graft/common';
import { Buffer, type CompileOptions, Dim, Module, Parameter, RuntimeInput } from '@graft/graph';
import type { OnnxLowering } from '@graft/onnx-export';
import { fieldsOf } from './module-walk.ts';
import { packageCode } from './package-code.ts';

/** Increased when the form of a recipe changes. */
const version = 1;

export interface KeyParts {
  bindRuntimeInput: CompileOptions['bindRuntimeInput'];
  kvSlots: number;
  mode: string;
  codeIdentity: string;
  lowerings: readonly OnnxLowering[];
  /** ONNX Runtime's version. */
  runtime: string;
}

/**
 * A name for all that a compiled graph of this model depends on, but its shapes: what `forward` could read in the module tree (classes and functions by
 * their text, fields, nulls, lent children, shapes and element types; no value of a weight), the bindings of runtime inputs, lowerings of plugins by their text, the code that captures and exports,
 * ONNX Runtime and this machine's processor. Equal models have equal names, in another process too. Hex.
 */
export function modelKey(model: Module, { bindRuntimeInput, kvSlots, mode, codeIdentity, lowerings, runtime }: KeyParts): string {
  const hash = createHash('sha256');
  const machine = [runtime, process.version, process.platform, process.arch, processor()];
  hash.update(JSON.stringify([version, kvSlots, mode, codeIdentity, ...machine, packageCode(import.meta.url)]));
  const tree = new TreeHash(hash, bindRuntimeInput);
  tree.add(model, '');
  for (const lowering of lowerings) tree.add([lowering.op.name, lowering], 'lowering');
  return hash.digest('hex').slice(0, 40);
}

/** Writes a tree of modules into a hash. A repeated object is written as the number of its first visit. */
class TreeHash {
  private readonly hash: Hash;
  private readonly bindRuntimeInput: CompileOptions['bindRuntimeInput'];
  private readonly seen = new Map<object, number>();

  constructor(hash: Hash, bindRuntimeInput: CompileOptions['bindRuntimeInput']) {
    this.hash = hash;
    this.bindRuntimeInput = bindRuntimeInput;
  }

  add(value: unknown, path: string): void {
    if (typeof value === 'function') this.addObject(value, () => this.note('function', path, Function.prototype.toString.call(value)));
    else if (typeof value === 'object' && value !== null) this.addObject(value, () => this.addContent(value, path));
    else this.note(typeof value, path, Object.is(value, -0) ? '-0' : String(value));
  }

  private addObject(value: object, add: () => void): void {
    const known = this.seen.get(value);
    if (known === undefined) {
      this.seen.set(value, this.seen.size);
      add();
    } else this.note('same', known);
  }

  private addContent(value: object, path: string): void {
    if (value instanceof Parameter) this.note('parameter', path, value.dtype, ...value.shape);
    else if (value instanceof Buffer) this.note('buffer', path, value.dtype, ...value.shape);
    else if (value instanceof RuntimeInput) this.note('runtime input', path, value.toString(), this.bindingOf(path, value));
    else if (value instanceof Dim) this.note('dim', path, value.toString());
    else if (ArrayBuffer.isView(value)) this.note('array', path, createHash('sha256').update(bytesOf(value)).digest('hex'));
    else this.addFields(value, path);
    this.addClass(value);
  }

  private addFields(value: object, path: string): void {
    this.note(value instanceof Module ? 'module' : 'object', path, value instanceof Date || value instanceof RegExp ? String(value) : '');
    if (value instanceof Map || value instanceof Set) for (const item of value) this.add(item, path);
    for (const field of fieldsOf(value, path)) {
      this.note('field', field.key);
      this.add(field.value, field.path);
    }
    this.note('end');
  }

  /** The members of the classes along the prototype chain, including functions that were assigned later. */
  private addClass(value: object): void {
    for (let owner = Object.getPrototypeOf(value) as object | null; owner !== null; owner = Object.getPrototypeOf(owner) as object | null) {
      if (isBuiltin(owner)) return;
      this.addObject(owner, () => {
        for (const key of Reflect.ownKeys(owner)) {
          const { value: member, get } = Reflect.getOwnPropertyDescriptor(owner, key)!;
          const content: unknown = get ?? member;
          this.note('member', String(key), typeof content === 'function' ? Function.prototype.toString.call(content) : String(content));
        }
      });
    }
  }

  private bindingOf(path: string, { kind }: RuntimeInput): string {
    try {
      return JSON.stringify(this.bindRuntimeInput(path, kind));
    } catch (error) {
      return `not bound: ${messageOf(error)}`; // a runtime input that no graph reads, such as one of a module that another took the place of
    }
  }

  private note(...parts: readonly (string | number)[]): void {
    this.hash.update(JSON.stringify(parts));
  }
}

const builtins = new Set<object>([Object, Array, Map, Set, Date, RegExp, Function, Promise].map((type) => type.prototype as object));

function isBuiltin(prototype: object): boolean {
  return builtins.has(prototype) || ArrayBuffer.isView(prototype);
}

function bytesOf({ buffer, byteOffset, byteLength }: ArrayBufferView): Uint8Array {
  return new Uint8Array(buffer, byteOffset, byteLength);
}

/** The processor's model and features, for which the optimiser may lay out a graph. */
function processor(): string {
  const model = cpus()[0]?.model ?? '';
  try {
    return `${model} ${/^(?:flags|Features)\s*:\s*(.*)$/m.exec(readFileSync('/proc/cpuinfo', 'utf8'))?.[1] ?? ''}`;
  } catch {
    return model;
  }
}
