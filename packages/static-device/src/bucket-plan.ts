import { z } from 'zod';

const Shape = z.array(z.int().nonnegative());
const Type = z.enum(['float32', 'int64', 'int32', 'bool']);

/** The source of a graph's input. */
const Source = z.discriminatedUnion('from', [
  /** An input of the step, by name. */
  z.strictObject({ from: z.literal('input'), name: z.string() }),
  /** The output of an earlier call: an index into `values`. */
  z.strictObject({ from: z.literal('value'), index: z.int().nonnegative() }),
  /** A parameter or buffer, by its path in the model. */
  z.strictObject({ from: z.literal('weight'), path: z.string() }),
  /** A cache, at the slots of the step. */
  z.strictObject({ from: z.literal('cache'), path: z.string() }),
]);
export type Source = z.output<typeof Source>;

/** The target of a graph's output. A cache is extended in place: the call reads the same memory. */
const Target = z.discriminatedUnion('to', [
  z.strictObject({ to: z.literal('value'), index: z.int().nonnegative() }),
  z.strictObject({ to: z.literal('cache'), path: z.string() }),
]);
export type Target = z.output<typeof Target>;

const Tensor = z.strictObject({ dtype: Type, dims: Shape });
const NamedTensor = Tensor.extend({ name: z.string() });

const Call = z.strictObject({
  /** Sha256 of the ONNX model: calls of one graph share a session. */
  graph: z.string().regex(/^[0-9a-f]{64}$/),
  /** The region and the module, for people. */
  label: z.string(),
  /** By tensor names of the graph. */
  reads: z.array(z.strictObject({ tensor: z.string(), source: Source })),
  writes: z.array(z.strictObject({ tensor: z.string(), target: Target })),
});
export type Call = z.output<typeof Call>;

/** The step inputs that attentions of a KV group share; null for a computed value. */
const Group = z.strictObject({
  path: z.string(),
  queryStart: z.string().nullable(),
  sequenceLengths: z.string().nullable(),
  totalLength: z.string().nullable(),
  queries: z.int().positive(),
  rows: z.int().positive(),
});

/** A step of a bucket as data: the graphs in their order, and their memory. All sizes are numbers. A plan has no value of a weight. */
export const BucketPlan = z.strictObject({
  inputs: z.array(NamedTensor),
  /** Outputs of calls, for later calls. */
  values: z.array(Tensor),
  weights: z.array(z.strictObject({ path: z.string(), shape: Shape })),
  /** Heads, rows and elements of a slot. */
  caches: z.array(z.strictObject({ path: z.string(), kind: z.string(), dims: z.tuple([z.int(), z.int(), z.int()]) })),
  /** Sequences in a step; null where the model has no runtime input that says so. */
  batch: z.int().positive().nullable(),
  groups: z.array(Group),
  calls: z.array(Call),
  outputs: z.array(z.strictObject({ name: z.string(), index: z.int().nonnegative() })),
});
export type BucketPlan = z.output<typeof BucketPlan>;
