import { Module, type Operand, ops, Parameter, type Tensor } from '@graft/graph';

/** Root-mean-square norm over the last axis. vLLM: `RMSNorm`. */
export class RmsNorm extends Module {
  readonly weight: Parameter;
  readonly epsilon: number;

  constructor(hiddenSize: number, epsilon: number) {
    super();
    this.weight = new Parameter([hiddenSize]);
    this.epsilon = epsilon;
  }

  forward(x: Tensor): Tensor {
    return ops.rmsNorm({ x, weight: this.factors() }, { epsilon: this.epsilon });
  }

  /** Adds `x` to the residual stream first; null starts the stream with `x`. @returns the norm and the stream. */
  forwardWithResidual(x: Tensor, residual: Tensor | null): [Tensor, Tensor] {
    if (residual === null) return [this.forward(x), x];
    const [normed, sum] = ops.addRmsNorm({ x, residual, weight: this.factors() }, { epsilon: this.epsilon });
    return [normed, sum];
  }

  /** `[hidden]` */
  factors(): Operand {
    return this.weight;
  }
}

/** A root-mean-square norm that multiplies by one plus the weight. vLLM: `GemmaRMSNorm`. */
export class GemmaRmsNorm extends RmsNorm {
  override factors(): Operand {
    return ops.addScalar({ x: this.weight }, { value: 1 });
  }
}

/** Root-mean-square norm of each head, without a weight. `[batch, sequence, heads * headDim]` -> the same. vLLM: `Llama4Attention.qk_norm`. */
export class HeadRmsNorm extends Module {
  readonly headDim: number;
  readonly epsilon: number;

  constructor(headDim: number, epsilon: number) {
    super();
    this.headDim = headDim;
    this.epsilon = epsilon;
  }

  forward(x: Tensor): Tensor {
    const [batch, sequence, width] = [x.dim(0), x.dim(1), x.dim(2)];
    const heads = x.reshape(batch, sequence, width.dividedBy(this.headDim), this.headDim); // [batch, sequence, heads, headDim]
    return ops.rmsNorm({ x: heads }, { epsilon: this.epsilon }).reshape(batch, sequence, width);
  }
}

/** Norm by mean and variance over the last axis. The epsilon is fixed, as in the published implementation. */
export class LayerNorm extends Module {
  readonly weight: Parameter;
  readonly bias: Parameter;
  readonly epsilon = 1e-5;

  constructor(hiddenSize: number) {
    super();
    this.weight = new Parameter([hiddenSize]);
    this.bias = new Parameter([hiddenSize]);
  }

  forward(x: Tensor): Tensor {
    return ops.layerNorm({ x, weight: this.weight, bias: this.bias }, { epsilon: this.epsilon });
  }
}
