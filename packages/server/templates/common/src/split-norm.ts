import { RmsNorm } from '@graft/core-model';
import type { Tensor } from '@graft/graph';

/** For a device whose norm kernel adds no residual: the sum is an op before the norm. The numbers stay the same, up to rounding. */
export class SplitNorm extends RmsNorm {
  /** Both `[tokens, hidden]` -> the normed sum, and the sum. */
  override forwardWithResidual(x: Tensor, residual: Tensor | null): [Tensor, Tensor] {
    const sum = residual === null ? x : x.add(residual);
    return [this.forward(sum), sum];
  }
}
