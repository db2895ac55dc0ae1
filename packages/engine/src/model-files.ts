import { type Checkpoint, type CheckpointFormat, openCheckpoint } from '@graft/core-model';
import { inject, injectable } from '@graft/registry';
import { type ModelText, openModelText, type TokenizerFormat } from './text/model-text.ts';
import { CheckpointFormats, Tokenizers, WeightPolicy } from './tokens.ts';

/** Reads a model's files in the formats that this engine has. */
@injectable()
export class ModelFiles {
  /** The forms in which the platform keeps weights. */
  readonly weightPolicy: WeightPolicy;
  private readonly formats: readonly CheckpointFormat[];
  private readonly tokenizers: readonly TokenizerFormat[];

  constructor(
    @inject(CheckpointFormats) formats: readonly CheckpointFormat[],
    @inject(Tokenizers) tokenizers: readonly TokenizerFormat[],
    @inject(WeightPolicy) weightPolicy: WeightPolicy,
  ) {
    this.formats = formats;
    this.tokenizers = tokenizers;
    this.weightPolicy = weightPolicy;
  }

  open(path: string): Promise<Checkpoint> {
    return openCheckpoint(path, { formats: this.formats });
  }

  text(checkpoint: Checkpoint): Promise<ModelText> {
    return openModelText(checkpoint, this.tokenizers);
  }
}
