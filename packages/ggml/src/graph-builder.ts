import { typeCodes } from './binding.ts';
import type { Device } from './device.ts';
import { GgmlTensorError, GgmlUnsupportedError } from './errors.ts';
import { Graph, type GraphMemory, type Window } from './graph.ts';
import { type GgmlCalls, ggml, type Handle } from './library.ts';
import { blockOf, extentOf, type Four, fourOf, packedStrides, Tensor, TensorArena, type TensorType } from './tensor.ts';

const unaryCalls = {
  abs: 'ggml_abs',
  exp: 'ggml_exp',
  floor: 'ggml_floor',
  geluErf: 'ggml_gelu_erf',
  log: 'ggml_log',
  relu: 'ggml_relu',
  sigmoid: 'ggml_sigmoid',
  silu: 'ggml_silu',
  softmax: 'ggml_soft_max',
  sqr: 'ggml_sqr',
  sqrt: 'ggml_sqrt',
  step: 'ggml_step',
  tanh: 'ggml_tanh',
} as const;
const binaryCalls = { add: 'ggml_add', sub: 'ggml_sub', mul: 'ggml_mul', div: 'ggml_div' } as const;
const normCalls = { rms: 'ggml_rms_norm', mean: 'ggml_norm' } as const;

export interface RopeOptions {
  /** Elements of a head that turn; the others stay. */
  readonly dims: number;
  /** Whether a pair is two neighbours, or element i and element i + dims / 2. */
  readonly interleaved: boolean;
  /** Of the angles: pair i turns by `position * base ** (-2 * i / dims) / factors[i]`. */
  readonly base: number;
  /** F32 [dims / 2]. */
  readonly factors?: Tensor | null;
  /** The turned values are multiplied by this. */
  readonly magnitude?: number;
}

export interface AttentionOptions {
  readonly scale: number;
  /** F16 [rows, queries, 1, batch]: added to the scores. */
  readonly mask?: Tensor | null;
  /** `softcap * tanh(score / softcap)` replaces a score. */
  readonly softcap?: number | null;
  /** F32 [heads]: a logit that joins the softmax of each head. */
  readonly sinks?: Tensor | null;
}

/**
 * Describes a graph, node by node. Shapes have the fastest axis first, as ggml's. Each method checks what ggml asserts, because an assertion of ggml ends the
 * process.
 * @throws GgmlTensorError from each method; GgmlUnsupportedError
 */
export class GraphBuilder {
  private readonly arena = new TensorArena();
  private readonly inputs: Tensor[] = [];
  private readonly windows: Window[] = [];
  private readonly written: Tensor[] = [];
  private readonly device: Device | null;
  private made = 0;

  /** @param device that computes the graph. Each node is checked for it, since a computation that it lacks ends the process. Default: the CPU, which has all. */
  constructor(device: Device | null = null) {
    this.device = device?.type === 'CPU' ? null : device;
  }

  /** A tensor that each computation brings. Indices need `below`, their limit, to be used as such. */
  input(type: 'F32' | 'I32' | 'F16', sizes: readonly number[], { below }: { below?: number } = {}): Tensor {
    const tensor = this.arena.tensor(type, sizes, { below: below ?? null });
    this.inputs.push(tensor);
    return tensor;
  }

  unary(kind: keyof typeof unaryCalls, x: Tensor): Tensor {
    this.expectPacked(kind, x);
    return this.node((calls, context) => calls[unaryCalls[kind]](context, this.use(x)), 'F32', x.ne);
  }

  /** `a` and `b`, which is repeated to the shape of `a`. */
  binary(kind: keyof typeof binaryCalls, a: Tensor, b: Tensor): Tensor {
    this.expectRows(kind, a);
    this.expectRows(kind, b);
    this.expect(kind, repeats(b.ne, a.ne), () => `${b} does not repeat to ${a}.`);
    return this.node((calls, context) => calls[binaryCalls[kind]](context, this.use(a), this.use(b)), 'F32', a.ne);
  }

  repeat(x: Tensor, sizes: readonly number[]): Tensor {
    const ne = fourOf(sizes, 'repeat');
    this.expectPacked('repeat', x);
    this.expect('repeat', repeats(x.ne, ne), () => `${x} does not repeat to [${ne.join(', ')}].`);
    return this.node((calls, context) => calls.ggml_repeat_4d(context, this.use(x), ...ne), 'F32', ne);
  }

  /** `x * factor + offset`. */
  scale(x: Tensor, factor: number, offset = 0): Tensor {
    this.expectPacked('scale', x);
    return this.node((calls, context) => calls.ggml_scale_bias(context, this.use(x), factor, offset), 'F32', x.ne);
  }

  /** One number. F32 [1]. */
  constant(value: number): Tensor {
    this.expect('constant', Number.isFinite(Math.fround(value)), () => `${value} is not a finite number of 32 bits.`);
    const step = Math.max(1, 2 ** Math.ceil(Math.log2(Math.abs(value) + 1)));
    return this.node((calls, context) => calls.ggml_arange(context, value, value + step, step), 'F32', [1, 1, 1, 1]);
  }

  /** 0, 1, ... F32 [count]. */
  range(count: number): Tensor {
    const ne = fourOf([count], 'range');
    this.expect('range', count <= 2 ** 24, () => `${count} numbers are not exact in 32 bits.`);
    return this.node((calls, context) => calls.ggml_arange(context, 0, count, 1), 'F32', ne);
  }

  /** The sum, or the mean, over the fastest axis, which stays with size 1. */
  reduce(kind: 'sum' | 'mean', x: Tensor): Tensor {
    this.expectPacked(kind, x);
    const call = kind === 'sum' ? 'ggml_sum_rows' : 'ggml_mean';
    return this.node((calls, context) => calls[call](context, this.use(x)), 'F32', [1, x.ne[1], x.ne[2], x.ne[3]]);
  }

  /** Where the fastest axis has its largest element. F32 [n, rows] -> I32 [rows]. */
  argmax(x: Tensor): Tensor {
    this.expectPacked('argmax', x);
    this.expect('argmax', x.ne[2] * x.ne[3] === 1, () => `${x} is not a matrix.`);
    return this.node((calls, context) => calls.ggml_argmax(context, this.use(x)), 'I32', [x.ne[1], 1, 1, 1], { below: x.ne[0] });
  }

  /** Where the fastest axis has its `count` largest elements, the largest first. F32 [n, ...] -> I32 [count, ...], a view. */
  argsort(x: Tensor, count: number): Tensor {
    this.expectPacked('argsort', x);
    this.expect(
      'argsort',
      Number.isSafeInteger(count) && count >= 1 && count <= x.ne[0],
      () => `${count} of ${x.ne[0]} elements were asked for.`,
    );
    const sorted = this.node((calls, context) => calls.ggml_argsort(context, this.use(x), descending), 'I32', x.ne, { below: x.ne[0] });
    return this.view(sorted, [count, x.ne[1], x.ne[2], x.ne[3]], sorted.nb);
  }

  /** The softmax of `scale * scores + mask` over the fastest axis. `scores [n, rows, heads, batch]`, `mask` F16 [n, rows, 1, batch]. */
  maskedSoftmax(scores: Tensor, mask: Tensor, scale: number): Tensor {
    this.expectPacked('maskedSoftmax', scores);
    const [n, rows, , batch] = scores.ne;
    this.expect(
      'maskedSoftmax',
      mask.type === 'F16' && mask.isContiguous && mask.ne.join() === [n, rows, 1, batch].join(),
      () => `${mask} is not the mask of ${scores}.`,
    );
    return this.node((calls, context) => calls.ggml_soft_max_ext(context, this.use(scores), this.use(mask), scale, 0), 'F32', scores.ne);
  }

  norm(kind: keyof typeof normCalls, x: Tensor, epsilon: number): Tensor {
    this.expectRows('norm', x);
    this.expect('norm', epsilon >= 0, () => `The epsilon is ${epsilon}.`);
    return this.node((calls, context) => calls[normCalls[kind]](context, this.use(x), epsilon), 'F32', x.ne);
  }

  /** A packed copy. */
  contiguous(x: Tensor): Tensor {
    if (x.isContiguous) return x;
    this.expect('contiguous', ['F32', 'I32', 'F16'].includes(x.type), () => `${x} cannot be copied.`);
    return this.node((calls, context) => calls.ggml_cont(context, this.use(x)), x.type, x.ne, { below: x.below });
  }

  /** The same numbers as F32, F16 or, cut to whole ones, I32. */
  cast(x: Tensor, type: 'F32' | 'F16' | 'I32'): Tensor {
    if (x.type === type) return x;
    const known = x.type === 'F32' || (x.type === 'I32' && type === 'F32') || (x.type === 'F16' && type === 'F32');
    this.expect('cast', known && x.isContiguous, () => `${x} cannot become ${type}.`);
    return this.node((calls, context) => calls.ggml_cast(context, this.use(x), typeCodes[type]), type, x.ne);
  }

  /** Whole numbers as indices below `limit`; others become the nearest one. F32 -> I32. */
  indices(x: Tensor, limit: number): Tensor {
    this.expect('indices', Number.isSafeInteger(limit) && limit >= 1 && limit <= 2 ** 24, () => `${limit} is no limit of indices.`);
    const notBelow = this.unary('relu', x); // relu makes 0 of NaN
    const cut = this.scale(this.unary('relu', this.scale(notBelow, -1, limit - 1)), -1, limit - 1);
    const { arena, handle, type, ne, nb, span } = this.cast(cut, 'I32');
    return new Tensor({ arena, handle, type, ne, nb, span, below: limit });
  }

  /** The same elements in another shape, without a copy. */
  reshape(x: Tensor, sizes: readonly number[]): Tensor {
    const ne = fourOf(sizes, 'reshape');
    if (ne.join() === x.ne.join() && x.isContiguous) return x;
    this.expect('reshape', x.isContiguous, () => `${x} has gaps.`);
    this.expect('reshape', ne[0] * ne[1] * ne[2] * ne[3] === x.elements, () => `${x} cannot become [${ne.join(', ')}].`);
    this.expect('reshape', blockOf(x.type).elements === 1 || ne[0] === x.ne[0], () => `The rows of ${x} are made of blocks.`);
    return this.viewNode((calls, context) => calls.ggml_reshape_4d(context, this.use(x), ...ne), x, ne, packedStrides(x.type, ne), 0);
  }

  /** A part of a tensor, by strides in bytes. The first stride is that of the type. */
  view(x: Tensor, sizes: readonly number[], strides: Four, offset = 0): Tensor {
    const ne = fourOf(sizes, 'view');
    const nb: Four = [x.nb[0], strides[1], strides[2], strides[3]];
    const { bytes } = blockOf(x.type);
    const whole = [...strides, offset].every((stride) => Number.isSafeInteger(stride) && stride >= 0 && stride % bytes === 0);
    this.expect(
      'view',
      whole && x.hasPackedRows,
      () => `Strides [${strides.join(', ')}] and offset ${offset} are not those of elements of ${x}.`,
    );
    this.expect('view', ne[0] % blockOf(x.type).elements === 0, () => `${ne[0]} elements are not made of the blocks of ${x}.`);
    const end = offset + extentOf(x.type, ne, nb);
    this.expect('view', end <= x.span, () => `The view ends at byte ${end}; ${x} has ${x.span}.`);
    return this.viewNode(
      (calls, context) => calls.ggml_view_4d(context, this.use(x), ...ne, nb[1], nb[2], nb[3], offset),
      x,
      ne,
      nb,
      offset,
    );
  }

  /** A view whose place each computation chooses, in bytes from the start of `x`, whose memory is not the graph's. */
  window(x: Tensor, sizes: readonly number[], strides: Four): Tensor {
    this.expect('window', x.root.arena !== this.arena, () => `${x} is a result of this graph.`);
    const tensor = this.view(x, sizes, strides);
    this.windows.push({ tensor, room: x.span - extentOf(tensor.type, tensor.ne, tensor.nb) });
    return tensor;
  }

  /** The axes in another order, as a view: axis i of `x` becomes axis `to[i]`. */
  permute(x: Tensor, to: Four): Tensor {
    this.expect('permute', [...to].sort().join() === '0,1,2,3', () => `[${to.join(', ')}] is no order of four axes.`);
    const moved = (values: Four): Four => [0, 1, 2, 3].map((axis) => values[to.indexOf(axis)]!) as unknown as Four;
    return this.viewNode((calls, context) => calls.ggml_permute(context, this.use(x), ...to), x, moved(x.ne), moved(x.nb), 0);
  }

  /** `a`, then `b` along an axis. */
  concat(a: Tensor, b: Tensor, axis: 0 | 1 | 2 | 3): Tensor {
    this.expectPacked('concat', a);
    this.expectPacked('concat', b);
    this.expect(
      'concat',
      a.ne.every((size, i) => i === axis || size === b.ne[i]),
      () => `${a} and ${b} differ in more than axis ${axis}.`,
    );
    const ne = a.ne.map((size, i) => (i === axis ? size + b.ne[i]! : size)) as unknown as Four;
    return this.node((calls, context) => calls.ggml_concat(context, this.use(a), this.use(b), axis), 'F32', ne);
  }

  /** Products of the rows of two tensors. `weight [k, n, ...]`, `x [k, m, ...]` F32 -> F32 [n, m, ...]; further axes of `weight` are repeated. */
  matmul(weight: Tensor, x: Tensor): Tensor {
    this.expectRows('matmul', x);
    this.expect('matmul', weight.hasPackedRows && weight.nb[0] <= weight.nb[1], () => `${weight} is transposed.`);
    if (weight.isPacked) this.expectPacked('matmul', x);
    const fits = weight.ne[0] === x.ne[0] && x.ne[2] % weight.ne[2] === 0 && x.ne[3] % weight.ne[3] === 0;
    this.expect('matmul', fits && weight.type !== 'I32', () => `${weight} cannot be multiplied with ${x}.`);
    const product = (calls: GgmlCalls, context: Handle<'context'>) =>
      calls.ggml_mul_mat(context, this.arena.use(weight, true), this.use(x));
    return this.node(exactFor(weight, product), 'F32', [weight.ne[1], x.ne[1], x.ne[2], x.ne[3]]);
  }

  /**
   * Products with chosen matrices. `weights [k, n, experts]`, `x [k, chosen or 1, tokens]`, `chosen` I32 [chosen, tokens] -> F32 [n, chosen, tokens].
   */
  matmulChosen(weights: Tensor, x: Tensor, chosen: Tensor): Tensor {
    this.expectPacked('matmulChosen', x);
    this.expectIndices('matmulChosen', chosen, weights.ne[2]);
    const fits = weights.ne[0] === x.ne[0] && chosen.ne[0] % x.ne[1] === 0 && chosen.ne[1] === x.ne[2];
    const flat = weights.isContiguous && weights.ne[3] * x.ne[3] * chosen.ne[2] * chosen.ne[3] === 1;
    this.expect('matmulChosen', fits && flat, () => `${weights} and ${x} cannot be multiplied by the choice ${chosen}.`);
    const product = (calls: GgmlCalls, context: Handle<'context'>) =>
      calls.ggml_mul_mat_id(context, this.arena.use(weights, true), this.use(x), this.use(chosen));
    return this.node(exactFor(weights, product), 'F32', [weights.ne[1], chosen.ne[0], x.ne[2], 1]);
  }

  /** Adds chosen rows: `x [n, chosen, tokens]`, `rows [n, experts]`, `chosen` I32 [chosen, tokens]. */
  addChosen(x: Tensor, rows: Tensor, chosen: Tensor): Tensor {
    this.expectPacked('addChosen', x);
    this.expectPacked('addChosen', rows);
    this.expectIndices('addChosen', chosen, rows.ne[1]);
    const fits = x.ne[0] === rows.ne[0] && x.ne[1] === chosen.ne[0] && x.ne[2] === chosen.ne[1];
    this.expect(
      'addChosen',
      fits && x.ne[3] * rows.ne[2] * rows.ne[3] * chosen.ne[2] * chosen.ne[3] === 1,
      () => `${rows} cannot be added to ${x} by ${chosen}.`,
    );
    return this.node((calls, context) => calls.ggml_add_id(context, this.use(x), this.use(rows), this.use(chosen)), 'F32', x.ne);
  }

  /** Rows of a table, as F32. `table [n, rows, a, b]`, `indices` I32 [count, a, b] -> F32 [n, count, a, b]. */
  getRows(table: Tensor, indices: Tensor): Tensor {
    this.expectIndices('getRows', indices, table.ne[1]);
    const fits = table.ne[2] === indices.ne[1] && table.ne[3] === indices.ne[2] && indices.ne[3] === 1;
    this.expect('getRows', fits && table.hasPackedRows && table.type !== 'I32', () => `${indices} cannot choose rows of ${table}.`);
    return this.node((calls, context) => calls.ggml_get_rows(context, this.use(table), this.use(indices)), 'F32', [
      table.ne[0],
      ...indices.ne.slice(0, 3),
    ] as unknown as Four);
  }

  /** Writes rows into a tensor: `table [n, rows]` F32 or F16, `rows [n, count]` F32, `indices` I32 [count]. -> the table, after the write. */
  setRows(table: Tensor, rows: Tensor, indices: Tensor): Tensor {
    this.expectRows('setRows', rows);
    this.expectIndices('setRows', indices, table.ne[1]);
    const fits = table.ne[0] === rows.ne[0] && rows.ne[1] === indices.ne[0];
    const flat = [table, rows].every(({ ne }) => ne[2] * ne[3] === 1) && indices.ne[1] * indices.ne[2] * indices.ne[3] === 1;
    this.expect(
      'setRows',
      fits && flat && table.isContiguous && isFloat(table),
      () => `${rows} cannot be written to ${table} at ${indices}.`,
    );
    const result = this.viewNode(
      (calls, context) => calls.ggml_set_rows(context, this.use(table), this.use(rows), this.use(indices)),
      table,
      table.ne,
      table.nb,
      0,
    );
    this.written.push(result);
    return result;
  }

  /** `silu(gate) * up`. */
  swiglu(gate: Tensor, up: Tensor): Tensor {
    this.expectGated('swiglu', gate, up);
    return this.node((calls, context) => calls.ggml_swiglu_split(context, this.use(gate), this.use(up)), 'F32', gate.ne);
  }

  /** `gelu(gate) * up`, where GELU is the form with tanh. A CPU reads it from a table of float16. */
  geglu(gate: Tensor, up: Tensor): Tensor {
    this.expectGated('geglu', gate, up);
    return this.node((calls, context) => calls.ggml_geglu_split(context, this.use(gate), this.use(up)), 'F32', gate.ne);
  }

  /** `(clamp(up) + 1) * gate * sigmoid(alpha * gate)`, both within `limit`. */
  swigluOai(gate: Tensor, up: Tensor, alpha: number, limit: number): Tensor {
    this.expectGated('swigluOai', gate, up);
    return this.node((calls, context) => calls.ggml_swiglu_oai(context, this.use(gate), this.use(up), alpha, limit), 'F32', gate.ne);
  }

  /** Turns pairs of elements by their position. `x [headDim, heads, tokens]`, `positions` I32 [tokens]. */
  rope(x: Tensor, positions: Tensor, { dims, interleaved, base, factors = null, magnitude = 1 }: RopeOptions): Tensor {
    this.expectRows('rope', x);
    const isFlat = x.ne[3] * positions.ne[1] * positions.ne[2] * positions.ne[3] === 1;
    this.expect(
      'rope',
      isFlat && positions.type === 'I32' && positions.isContiguous && positions.ne[0] === x.ne[2],
      () => `${positions} are not the positions of ${x}.`,
    );
    this.expect('rope', dims > 0 && dims % 2 === 0 && dims <= x.ne[0], () => `${dims} elements of ${x} cannot turn in pairs.`);
    if (factors !== null)
      this.expect(
        'rope',
        factors.type === 'F32' && factors.isContiguous && factors.elements === dims / 2,
        () => `${factors} are not ${dims / 2} factors.`,
      );
    const mode = interleaved ? 0 : 2;
    return this.node(
      (calls, context) =>
        calls.ggml_rope_ext(
          context,
          this.use(x),
          this.use(positions),
          factors && this.use(factors),
          dims,
          mode,
          0,
          base,
          1,
          0,
          magnitude,
          0,
          0,
        ),
      'F32',
      x.ne,
    );
  }

  /** Attention. `query [headDim, queries, heads, batch]` F32, `key` and `value [headDim, rows, kvHeads, batch]` F32 or F16 -> F32 [headDim, heads, queries, batch]. */
  attention(query: Tensor, key: Tensor, value: Tensor, { scale, mask = null, softcap = null, sinks = null }: AttentionOptions): Tensor {
    this.expectRows('attention', query);
    for (const one of [key, value]) this.expect('attention', one.hasPackedRows && isFloat(one), () => `${one} are no rows of a cache.`);
    const [width, queries, heads, batch] = query.ne;
    const fits =
      key.ne[0] === width && heads % key.ne[2] === 0 && key.ne[3] === batch && value.ne.slice(1).join() === key.ne.slice(1).join();
    this.expect('attention', fits, () => `${query}, ${key} and ${value} do not fit together.`);
    if (mask !== null)
      this.expect(
        'attention',
        mask.type === 'F16' && mask.isContiguous && mask.ne.join() === [key.ne[1], queries, 1, batch].join(),
        () => `${mask} is not the mask of ${query} and ${key}.`,
      );
    if (sinks !== null)
      this.expect(
        'attention',
        sinks.type === 'F32' && sinks.isContiguous && sinks.elements === heads,
        () => `${sinks} are not ${heads} sinks.`,
      );
    return this.node(
      (calls, context) => {
        const made = calls.ggml_flash_attn_ext(
          context,
          this.use(query),
          this.use(key),
          this.use(value),
          mask && this.use(mask),
          scale,
          0,
          softcap ?? 0,
        );
        calls.ggml_prec_set_acc(made!, precise);
        if (sinks !== null) calls.ggml_flash_attn_ext_add_sinks(made, this.use(sinks));
        return made;
      },
      'F32',
      [value.ne[0], heads, queries, batch],
    );
  }

  /**
   * Ends the description. The graph owns the tensors from here on.
   * @param memory for its inputs and results; other graphs may share it
   * @param title names the graph if ggml ends the process
   * @throws GgmlCallError when the device has too little memory
   */
  build(outputs: readonly Tensor[], memory: GraphMemory, title = 'a graph'): Graph {
    for (const output of outputs)
      this.expect(
        'output',
        output.arena === this.arena && output.isContiguous && output.type !== 'F16',
        () => `${output} is no packed result of this graph.`,
      );
    const { inputs, windows, written, made } = this;
    return new Graph(this.arena, memory, { inputs, windows, outputs, written, made }, title);
  }

  /** Frees what was described, when no graph is built. */
  [Symbol.dispose](): void {
    this.arena[Symbol.dispose]();
  }

  private use(tensor: Tensor): Handle<'tensor'> {
    return this.arena.use(tensor);
  }

  private node(make: Make, type: TensorType, ne: Four, { below = null }: { below?: number | null } = {}): Tensor {
    this.made += 1;
    const handle = this.supported(make(ggml().calls, this.arena.context())!);
    const nb = packedStrides(type, ne);
    return new Tensor({ arena: this.arena, handle, type, ne, nb, span: extentOf(type, ne, nb), below });
  }

  private viewNode(make: Make, of: Tensor, ne: Four, nb: Four, offset: number): Tensor {
    this.made += 1;
    const handle = this.supported(make(ggml().calls, this.arena.context())!);
    return new Tensor({ arena: this.arena, handle, type: of.type, ne, nb, span: of.span - offset, below: of.below, of });
  }

  private supported(handle: Handle<'tensor'>): Handle<'tensor'> {
    const { calls } = ggml();
    if (this.device === null || calls.ggml_backend_dev_supports_op(this.device.handle, handle)) return handle;
    throw new GgmlUnsupportedError(calls.ggml_op_desc(handle), `${this.device.name} (${this.device.description})`);
  }

  private expect(op: string, condition: boolean, what: () => string): void {
    if (!condition) throw new GgmlTensorError(`ggml's ${op}`, what());
  }

  private expectPacked(op: string, x: Tensor): void {
    this.expect(op, x.type === 'F32' && x.isContiguous, () => `${x} is not F32 without gaps.`);
  }

  private expectRows(op: string, x: Tensor): void {
    this.expect(op, x.type === 'F32' && x.hasPackedRows, () => `${x} is not F32 with rows without gaps.`);
  }

  private expectGated(op: string, gate: Tensor, up: Tensor): void {
    for (const half of [gate, up]) {
      const [, row, plane, block] = half.nb;
      const isStacked = plane === row * half.ne[1] && block === plane * half.ne[2];
      this.expect(op, half.type === 'F32' && half.hasPackedRows && isStacked, () => `${half} has gaps other than between rows.`);
    }
    this.expect(op, gate.ne.join() === up.ne.join(), () => `${gate} and ${up} differ.`);
  }

  private expectIndices(op: string, indices: Tensor, count: number): void {
    this.expect(op, indices.type === 'I32' && indices.hasPackedRows, () => `${indices} are no indices.`);
    this.expect(
      op,
      indices.below !== null && indices.below <= count,
      () => `The indices are below ${indices.below ?? 'nothing known'}; there are ${count} rows.`,
    );
  }
}

type Make = (calls: GgmlCalls, context: Handle<'context'>) => Handle<'tensor'> | null;

/** A product whose sums are in float32 if its weight is. */
function exactFor({ type }: Tensor, product: Make): Make {
  if (type !== 'F32') return product;
  return (calls, context) => {
    const made = product(calls, context);
    calls.ggml_prec_set_acc(made, precise);
    return made;
  };
}

/** `GGML_PREC_F32`: sums are in float32, which a GPU may otherwise do in float16. */
const precise = 10;
/** `GGML_SORT_ORDER_DESC`. */
const descending = 1;

const isFloat = ({ type }: Tensor): boolean => type === 'F32' || type === 'F16';
const repeats = (small: Four, large: Four): boolean => large.every((size, axis) => size % small[axis]! === 0);
