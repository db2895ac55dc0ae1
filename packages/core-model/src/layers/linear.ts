import { Module, ops, Parameter, type Tensor } from '@graft/graph';

/** `x [..., in]` -> `[..., out]`. vLLM: `ColumnParallelLinear`, `RowParallelLinear`, `QKVParallelLinear` and the like, on one device. */
export class Linear extends Module {
  readonly weight: Parameter;
  readonly bias: Parameter | null;

  constructor(inputSize: number, outputSize: number, { bias = false }: { bias?: boolean } = {}) {
    super();
    this.weight = new Parameter([outputSize, inputSize]);
    this.bias = bias ? new Parameter([outputSize]) : null;
  }

  forward(x: Tensor): Tensor {
    return ops.linear({ x, weight: this.weight, bias: this.bias });
  }
}
