import { Module, ops, Parameter, type Tensor } from '@graft/graph';

/** Routed experts. `x [batch, sequence, hidden]`, `routerLogits [batch, sequence, experts]` -> as `x`. vLLM: `FusedMoE`. */
export class FusedMoe extends Module {
  readonly topK: number;
  readonly w13_weight: Parameter;
  readonly w2_weight: Parameter;

  constructor(numExperts: number, topK: number, hiddenSize: number, intermediateSize: number) {
    super();
    this.topK = topK;
    this.w13_weight = new Parameter([numExperts, 2 * intermediateSize, hiddenSize]);
    this.w2_weight = new Parameter([numExperts, hiddenSize, intermediateSize]);
  }

  forward(x: Tensor, routerLogits: Tensor): Tensor {
    const tokens = x.dim(0).times(x.dim(1));
    const flat = x.reshape(tokens, x.dim(2)); // [tokens, hidden]
    const logits = routerLogits.reshape(tokens, routerLogits.dim(2)); // [tokens, experts]
    const mixed = ops.fusedMoe({ x: flat, routerLogits: logits, w13: this.w13_weight, w2: this.w2_weight }, { topK: this.topK });
    return mixed.reshape(x.dim(0), x.dim(1), x.dim(2));
  }
}
