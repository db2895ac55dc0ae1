import { Module, ops, Parameter, RuntimeInput, type Tensor } from '@graft/graph';

/** The KV cache that a layer needs. The runner reads it; `forward` never does. */
export type KvCacheSpec =
  | { kind: 'full'; numKvHeads: number; headDim: number }
  /** Restarts at every multiple of `chunkSize`. */
  | { kind: 'chunked-local'; numKvHeads: number; headDim: number; chunkSize: number }
  /** Only the last `windowSize` rows are read again. */
  | { kind: 'sliding-window'; numKvHeads: number; headDim: number; windowSize: number };

export interface AttentionOptions {
  numHeads: number;
  numKvHeads: number;
  headDim: number;
  scale: number;
  /** Tokens that a query sees, itself included; null: all before it. */
  window?: number | null;
  /** Largest score, approached by tanh. */
  softcap?: number | null;
  /** Whether each head has a learned logit that takes a share of the softmax and gives no value. */
  sinks?: boolean;
}

/** Causal attention over the sequence's KV cache. vLLM: `Attention`. */
export class Attention extends Module {
  readonly numHeads: number;
  readonly numKvHeads: number;
  readonly headDim: number;
  readonly scale: number;
  readonly window: number | null;
  readonly softcap: number | null;
  readonly sinks: Parameter | null;
  readonly keyCache: RuntimeInput;
  readonly valueCache: RuntimeInput;
  readonly queryStart = new RuntimeInput('queryStart', 'int32', ['batch']);
  readonly sequenceLengths = new RuntimeInput('sequenceLengths', 'int32', ['batch']);
  readonly totalLength = new RuntimeInput('totalLength', 'int32', []);

  constructor({ numHeads, numKvHeads, headDim, scale, window = null, softcap = null, sinks = false }: AttentionOptions) {
    super();
    this.numHeads = numHeads;
    this.numKvHeads = numKvHeads;
    this.headDim = headDim;
    this.scale = scale;
    this.window = window;
    this.softcap = softcap;
    this.sinks = sinks ? new Parameter([numHeads]) : null;
    this.keyCache = new RuntimeInput('kvCache.key', 'float32', ['batch', numKvHeads, 'rows', headDim]);
    this.valueCache = new RuntimeInput('kvCache.value', 'float32', ['batch', numKvHeads, 'rows', headDim]);
  }

  /** `query [batch, sequence, numHeads * headDim]`, `key` and `value [batch, sequence, numKvHeads * headDim]` -> as `query`. */
  forward(query: Tensor, key: Tensor, value: Tensor): Tensor {
    const { keyCache, valueCache, queryStart, sequenceLengths, totalLength, sinks } = this;
    const { numHeads, numKvHeads, headDim, scale, window, softcap } = this;
    return ops.attention(
      { query, key, value, keyCache, valueCache, queryStart, sequenceLengths, totalLength, sinks },
      { numHeads, numKvHeads, headDim, scale, window, softcap },
    );
  }

  getKvCacheSpec(): KvCacheSpec {
    const { numKvHeads, headDim, window } = this;
    if (window === null) return { kind: 'full', numKvHeads, headDim };
    return { kind: 'sliding-window', numKvHeads, headDim, windowSize: window };
  }
}

/** Attention within the position's chunk. The cache restarts at each chunk. vLLM: `ChunkedLocalAttention`. */
export class ChunkedLocalAttention extends Attention {
  private readonly kvCacheSpec: KvCacheSpec;

  constructor(chunkSize: number, options: AttentionOptions) {
    super(options);
    this.kvCacheSpec = { kind: 'chunked-local', numKvHeads: options.numKvHeads, headDim: options.headDim, chunkSize };
  }

  override getKvCacheSpec(): KvCacheSpec {
    return this.kvCacheSpec;
  }
}
