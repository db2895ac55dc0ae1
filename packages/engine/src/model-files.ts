import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { type Checkpoint, type CheckpointFormat, openCheckpoint, readModelConfig } from '@graft/core-model';
import { inject, injectable } from '@graft/registry';
import { guarded } from './call-plugin.ts';
import { configAlone } from './model-source.ts';
import { type ModelText, openModelText, type TokenizerFormat } from './text/model-text.ts';
import { CheckpointFormats, Tokenizers } from './tokens.ts';

/** Reads a model's files, in the formats of this engine. */
@injectable()
export class ModelFiles {
  private readonly formats: readonly CheckpointFormat[];
  private readonly tokenizers: readonly TokenizerFormat[];

  constructor(@inject(CheckpointFormats) formats: readonly CheckpointFormat[], @inject(Tokenizers) tokenizers: readonly TokenizerFormat[]) {
    this.formats = formats.map((format) => guarded('CheckpointFormats', format, { open: ['tensors'] }));
    this.tokenizers = tokenizers.map((format) => guarded('Tokenizers', format));
  }

  open(path: string): Promise<Checkpoint> {
    return openCheckpoint(path, { formats: this.formats });
  }

  /** A checkpoint of which no weight is needed: config.json of a folder, or a file that has it. Nothing is left open. */
  async config(path: string): Promise<Checkpoint> {
    if (existsSync(join(path, 'config.json'))) return configAlone(path, await readModelConfig(path));
    using checkpoint = await this.open(path);
    return checkpoint;
  }

  text(checkpoint: Checkpoint): Promise<ModelText> {
    return openModelText(checkpoint, this.tokenizers);
  }
}
