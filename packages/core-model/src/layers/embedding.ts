import { Module, ops, Parameter, type Tensor } from '@graft/graph';

/** Token ids `[...]` (int64) -> `[..., hidden]`. vLLM: `VocabParallelEmbedding`. */
export class Embedding extends Module {
  readonly weight: Parameter;

  constructor(vocabSize: number, hiddenSize: number) {
    super();
    this.weight = new Parameter([vocabSize, hiddenSize]);
  }

  forward(ids: Tensor): Tensor {
    return ops.embedding({ ids, weight: this.weight });
  }
}
