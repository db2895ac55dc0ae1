import { joinPath } from '../nn/module.ts';
import { Dim } from '../shape.ts';
import { SymbolicTensor } from '../tensor.ts';

/** A value that `forward` takes or returns, with each tensor replaced by its index. */
export type Structure =
  | { kind: 'tensor'; index: number; path: string }
  | { kind: 'list'; items: Structure[] }
  | { kind: 'record'; entries: [string, Structure][]; prototype: object | null }
  | { kind: 'leaf'; value: unknown };

export interface Flat {
  tensors: { path: string; tensor: SymbolicTensor }[];
  structure: Structure;
}

/** Takes the tensors out of nested lists and records, in order. */
export function flatten(value: unknown, root = ''): Flat {
  const tensors: Flat['tensors'] = [];
  const visit = (node: unknown, path: string): Structure => {
    if (node instanceof SymbolicTensor) {
      tensors.push({ path, tensor: node });
      return { kind: 'tensor', index: tensors.length - 1, path };
    }
    if (Array.isArray(node)) return { kind: 'list', items: node.map((item, i) => visit(item, joinPath(path, String(i)))) };
    if (typeof node === 'object' && node !== null && !(node instanceof Dim)) {
      const entries = Object.entries(node).map(([key, item]): [string, Structure] => [key, visit(item, joinPath(path, key))]);
      return { kind: 'record', entries, prototype: Object.getPrototypeOf(node) as object | null };
    }
    return { kind: 'leaf', value: node };
  };
  const structure = visit(value, root);
  return { tensors, structure };
}

/** A structure and all inside it, parents first, each with its path. */
export function* walk(structure: Structure, path = ''): IterableIterator<{ path: string; at: Structure }> {
  yield { path, at: structure };
  if (structure.kind === 'list') for (const [i, item] of structure.items.entries()) yield* walk(item, joinPath(path, String(i)));
  if (structure.kind === 'record') for (const [key, item] of structure.entries) yield* walk(item, joinPath(path, key));
}

/** The inverse of `flatten`, with other tensors. */
export function unflatten(structure: Structure, tensors: readonly SymbolicTensor[]): unknown {
  switch (structure.kind) {
    case 'tensor':
      return tensors[structure.index];
    case 'list':
      return structure.items.map((item) => unflatten(item, tensors));
    case 'record':
      return Object.assign(
        Object.create(structure.prototype) as object,
        Object.fromEntries(structure.entries.map(([k, v]) => [k, unflatten(v, tensors)])),
      );
    case 'leaf':
      return structure.value;
  }
}
