import { type AttributesOf, Module, ops, Parameter, type Tensor } from '@graft/graph';

type Routing = AttributesOf<typeof ops.fusedMoe>['routing'];
type Activation = AttributesOf<typeof ops.fusedMoe>['activation'];

/** `routing` and `activation` are those of the op `fusedMoe`. */
export interface FusedMoeOptions {
  routing?: Routing;
  activation?: Activation;
  bias?: boolean;
}

/** Routed experts. `x [batch, sequence, hidden]`, `routerLogits [batch, sequence, experts]` -> as `x`. vLLM: `FusedMoE`. */
export class FusedMoe extends Module {
  readonly topK: number;
  readonly routing: Routing;
  readonly activation: Activation;
  /** Gate, then up. */
  readonly w13_weight: Parameter;
  readonly w2_weight: Parameter;
  readonly w13_bias: Parameter | null;
  readonly w2_bias: Parameter | null;

  constructor(
    numExperts: number,
    topK: number,
    hiddenSize: number,
    intermediateSize: number,
    { routing = 'sigmoidInput', activation = { kind: 'silu' }, bias = false }: FusedMoeOptions = {},
  ) {
    super();
    this.topK = topK;
    this.routing = routing;
    this.activation = activation;
    this.w13_weight = new Parameter([numExperts, 2 * intermediateSize, hiddenSize]);
    this.w2_weight = new Parameter([numExperts, hiddenSize, intermediateSize]);
    this.w13_bias = bias ? new Parameter([numExperts, 2 * intermediateSize]) : null;
    this.w2_bias = bias ? new Parameter([numExperts, hiddenSize]) : null;
  }

  forward(x: Tensor, routerLogits: Tensor): Tensor {
    const tokens = x.dim(0).times(x.dim(1));
    const flat = x.reshape(tokens, x.dim(2)); // [tokens, hidden]
    const logits = routerLogits.reshape(tokens, routerLogits.dim(2)); // [tokens, experts]
    const { topK, routing, activation, w13_weight: w13, w2_weight: w2, w13_bias: w13Bias, w2_bias: w2Bias } = this;
    const mixed = ops.fusedMoe({ x: flat, routerLogits: logits, w13, w2, w13Bias, w2Bias }, { topK, routing, activation });
    return mixed.reshape(x.dim(0), x.dim(1), x.dim(2));
  }
}
