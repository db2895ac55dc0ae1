import { GraftError } from '@graft/common';

/** The checkpoint has no tokenizer that could be read. */
export class TokenizerMissingError extends GraftError {
  constructor(folder: string, cause?: unknown) {
    super({
      code: 'GRAFT_TOKENIZER_MISSING',
      what: 'There is no tokenizer.json in the checkpoint.',
      where: folder,
      fix: 'copy the tokenizer.json that was published with the model into this folder, or load a GGUF file, which carries its vocabulary.',
      cause,
    });
  }
}

/** A tokenizer file or a GGUF's tokenizer keys do not have the form that they must have. */
export class TokenizerInvalidError extends GraftError {
  constructor(what: string, where: string, cause?: unknown) {
    super({
      code: 'GRAFT_TOKENIZER_INVALID',
      what,
      where,
      fix: 'the file is damaged or was not written for this model: download it again, or convert the model again.',
      cause,
    });
  }
}

/** A tokenizer of a kind that Graft does not read. */
export class TokenizerUnsupportedError extends GraftError {
  constructor(facts: { key: string; value: unknown; supported: readonly string[]; where: string }) {
    super({
      code: 'GRAFT_TOKENIZER_UNSUPPORTED',
      what: `The tokenizer has ${facts.key} ${JSON.stringify(facts.value) ?? 'nothing'}; Graft reads ${facts.supported.join(', ')}.`,
      where: facts.where,
      fix: 'use a checkpoint whose tokenizer is byte-level BPE of one of these kinds.',
    });
  }
}

/** A token id that is not a non-negative integer. */
export class TokenIdError extends GraftError {
  constructor(tokenId: unknown) {
    super({
      code: 'GRAFT_TOKEN_ID_INVALID',
      what: `${String(tokenId)} is not a token id.`,
      fix: 'token ids are integers, counted from 0.',
    });
  }
}

/** @throws TokenIdError unless `tokenId` is an integer from 0 up. */
export function checkTokenId(tokenId: number): void {
  if (!Number.isSafeInteger(tokenId) || tokenId < 0) throw new TokenIdError(tokenId);
}
