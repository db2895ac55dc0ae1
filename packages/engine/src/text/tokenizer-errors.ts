import { graftError } from '@graft/common';

/** A tokenizer file, or the tokenizer keys of a GGUF, are malformed. */
export class TokenizerInvalidError extends graftError('GRAFT_TOKENIZER_INVALID', (what: string, where: string, cause?: unknown) => ({
  what,
  where,
  fix: 'the file is damaged or belongs to another model: download it again, or convert the model again.',
  cause,
})) {}

interface Unsupported {
  key: string;
  value: unknown;
  supported: readonly string[];
  where: string;
}

/** Graft does not support this kind of tokenizer. */
export class TokenizerUnsupportedError extends graftError(
  'GRAFT_TOKENIZER_UNSUPPORTED',
  ({ key, value, supported, where }: Unsupported) => ({
    what: `The tokenizer has ${key} ${JSON.stringify(value) ?? 'nothing'}; Graft reads ${supported.join(', ')}.`,
    where,
    fix: 'use a checkpoint whose tokenizer is of one of these kinds.',
  }),
) {}

/** A token id is not a non-negative integer. */
export class TokenIdError extends graftError('GRAFT_TOKEN_ID_INVALID', (tokenId: unknown) => ({
  what: `${String(tokenId)} is not a token id.`,
  fix: 'send integers, counted from 0.',
})) {}

/** @throws TokenIdError unless `tokenId` is an integer from 0 up. */
export function checkTokenId(tokenId: number): void {
  if (!Number.isSafeInteger(tokenId) || tokenId < 0) throw new TokenIdError(tokenId);
}
