import { Module, ops, RuntimeInput, type Tensor } from '@graft/graph';

/** The KV cache that a layer needs. The runner reads it; `forward` never does. */
export type KvCacheSpec =
  | { kind: 'full'; numKvHeads: number; headDim: number }
  /** Restarts at every multiple of `chunkSize`. */
  | { kind: 'chunked-local'; numKvHeads: number; headDim: number; chunkSize: number };

export interface AttentionOptions {
  numHeads: number;
  numKvHeads: number;
  headDim: number;
  scale: number;
}

/** Causal attention over the sequence's KV cache. vLLM: `Attention`. */
export class Attention extends Module {
  readonly numHeads: number;
  readonly numKvHeads: number;
  readonly headDim: number;
  readonly scale: number;
  readonly keyCache: RuntimeInput;
  readonly valueCache: RuntimeInput;
  readonly queryStart = new RuntimeInput('queryStart', 'int32', ['batch']);
  readonly sequenceLengths = new RuntimeInput('sequenceLengths', 'int32', ['batch']);
  readonly totalLength = new RuntimeInput('totalLength', 'int32', []);

  constructor({ numHeads, numKvHeads, headDim, scale }: AttentionOptions) {
    super();
    this.numHeads = numHeads;
    this.numKvHeads = numKvHeads;
    this.headDim = headDim;
    this.scale = scale;
    this.keyCache = new RuntimeInput('kvCache.key', 'float32', ['batch', numKvHeads, 'rows', headDim]);
    this.valueCache = new RuntimeInput('kvCache.value', 'float32', ['batch', numKvHeads, 'rows', headDim]);
  }

  /** `query [batch, sequence, numHeads * headDim]`, `key` and `value [batch, sequence, numKvHeads * headDim]` -> as `query`. */
  forward(query: Tensor, key: Tensor, value: Tensor): Tensor {
    return ops.attention(
      {
        query,
        key,
        value,
        keyCache: this.keyCache,
        valueCache: this.valueCache,
        queryStart: this.queryStart,
        sequenceLengths: this.sequenceLengths,
        totalLength: this.totalLength,
      },
      { numHeads: this.numHeads, numKvHeads: this.numKvHeads, headDim: this.headDim, scale: this.scale },
    );
  }

  getKvCacheSpec(): KvCacheSpec {
    return { kind: 'full', numKvHeads: this.numKvHeads, headDim: this.headDim };
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
