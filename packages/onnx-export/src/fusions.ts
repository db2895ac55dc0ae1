import { type AttributesOf, type Graph, type OpFacts, type OpNode, ops, type Value } from '@graft/graph';
import { cacheWidth } from './lowering-context.ts';

type Rotation = AttributesOf<typeof ops.rotaryEmbedding>;

/** The inputs of an attention that replaces the nodes before it. */
export interface AttentionInputs {
  /** Query, key and value in one tensor; null when they are three tensors. */
  readonly packed: Value | null;
  readonly query: Value;
  readonly key: Value;
  readonly value: Value;
  /** The rotation that the attention computes. */
  readonly rotary: { readonly positions: Value; readonly cos: Value; readonly sin: Value; readonly interleaved: boolean } | null;
}

export interface Fusions {
  /** Nodes that another node replaces. */
  readonly absorbed: ReadonlySet<OpNode>;
  readonly attention: ReadonlyMap<OpNode, AttentionInputs>;
}

/**
 * Finds attentions that can replace the split and the rotations before them, because GroupQueryAttention can read query, key and value from one tensor and
 * rotate query and key. This saves three nodes in a layer and two copies of their tensors.
 */
export function findFusions(graph: Graph, isOurs: (node: OpNode) => boolean): Fusions {
  const uses = countUses(graph);
  const producers = new Map<Value, OpNode>();
  const absorbed = new Set<OpNode>();
  const attention = new Map<OpNode, AttentionInputs>();
  for (const node of graph.nodes) {
    if (node.kind !== 'op') continue;
    for (const output of node.outputs) producers.set(output, node);
    if (node.op === ops.attention && isOurs(node)) attention.set(node, attentionInputs(node));
  }
  return { absorbed, attention };

  function onlyUse(value: Value, op: OpFacts): OpNode | null {
    const node = producers.get(value);
    return node?.op === op && uses.get(value) === 1 && isOurs(node) ? node : null;
  }

  function attentionInputs(node: OpNode): AttentionInputs {
    const plain = { query: node.inputs['query']!, key: node.inputs['key']!, value: node.inputs['value']! };
    const rotated = withoutRotary(node, plain);
    const { query, key, value, rotary } = rotated ?? { ...plain, rotary: null };
    const packed = packedSource(node, [query, key, value]);
    return { packed, query, key, value, rotary };
  }

  function withoutRotary(node: OpNode, { query, key, value }: Pick<AttentionInputs, 'query' | 'key' | 'value'>) {
    const q = onlyUse(query, ops.rotaryEmbedding);
    const k = onlyUse(key, ops.rotaryEmbedding);
    if (q === null || k === null) return null;
    if (['positions', 'cos', 'sin'].some((name) => q.inputs[name] !== k.inputs[name])) return null;
    const { headDim } = node.attributes as AttributesOf<typeof ops.attention>;
    const [rotation, other] = [q.attributes as Rotation, k.attributes as Rotation];
    if ([rotation.rotaryDim, cacheWidth(headDim)].some((width) => width % 16 !== 0)) return null; // GroupQueryAttention cannot rotate others
    if (rotation.headDim !== headDim || other.headDim !== headDim || rotation.interleaved !== other.interleaved) return null;
    absorbed.add(q).add(k);
    const rotary = { positions: q.inputs['positions']!, cos: q.inputs['cos']!, sin: q.inputs['sin']!, interleaved: rotation.interleaved };
    return { query: q.inputs['x']!, key: k.inputs['x']!, value, rotary };
  }

  function packedSource(node: OpNode, parts: readonly Value[]): Value | null {
    const [split] = parts.map((part) => onlyUse(part, ops.split));
    if (split === null || split === undefined || split.outputs.length !== 3) return null;
    if (parts.some((part, i) => split.outputs[i] !== part || uses.get(part) !== 1)) return null;
    const { numHeads, numKvHeads, headDim } = node.attributes as AttributesOf<typeof ops.attention>;
    const { sizes } = split.attributes as AttributesOf<typeof ops.split>;
    if (cacheWidth(headDim) !== headDim) return null; // padding needs three tensors
    if (sizes.join() !== [numHeads, numKvHeads, numKvHeads].map((heads) => heads * headDim).join()) return null;
    absorbed.add(split);
    return split.inputs['x']!;
  }
}

function countUses(graph: Graph): Map<Value, number> {
  const uses = new Map<Value, number>();
  const count = (value: Value | null) => value !== null && uses.set(value, (uses.get(value) ?? 0) + 1);
  for (const node of graph.nodes) for (const value of Object.values(node.inputs)) count(value as Value | null);
  for (const { value } of graph.outputs) count(value);
  return uses;
}
