import { type GraftErrorFacts, graftError } from '@graft/common';

/** The thrower words all three parts. */
const worded = (code: GraftErrorFacts['code']) => graftError(code, (what: string, where: string, fix: string) => ({ what, where, fix }));

/** The text does not name a model of the hub. */
export class HubNameError extends worded('GRAFT_HUB_NAME') {}

/** A variable of the environment cannot be used. */
export class HubSettingError extends worded('GRAFT_HUB_SETTING') {}

/** The model is gated, or the token is wrong. */
export class HubAccessError extends worded('GRAFT_HUB_ACCESS') {}

/** The hub has no such repository, revision or file. */
export class HubNotFoundError extends worded('GRAFT_HUB_NOT_FOUND') {}

/** The repository does not have exactly one model of the name. */
export class HubFilesError extends worded('GRAFT_HUB_FILES') {}

/** No network, a broken connection, or an answer that is not the hub's. */
export class HubUnreachableError extends graftError('GRAFT_HUB_UNREACHABLE', (what: string, where: string, cause?: unknown) => ({
  what,
  where,
  fix: 'check the network, the proxy and HF_ENDPOINT, then run it again: a download goes on where it stopped.',
  cause,
})) {}

/** The cache lacks a model, or a part of it. */
export class NotCachedError extends graftError('GRAFT_HUB_NOT_CACHED', (where: string, fix: string) => ({
  what: 'The cache does not have this model, or not all of its files.',
  where,
  fix,
})) {}

/** A downloaded file is not the expected one. */
export class ModelHashError extends graftError('GRAFT_MODEL_HASH_MISMATCH', (name: string, expected: string, actual: string) => ({
  what: `The downloaded ${name} is not the expected file: its hash is ${actual}, expected ${expected}.`,
  where: name,
  fix: 'start again. If it persists, the source or a proxy serves another file: use another one, or give a model with --model.',
})) {}

/** The disk of the cache is full. */
export class ModelDiskFullError extends graftError('GRAFT_MODEL_DISK_FULL', (name: string, where: string, sizes: string) => ({
  what: `The disk has no room for ${name}${sizes}.`,
  where,
  fix: 'free some space (graft models lists what the cache holds, graft rm removes a model), or set HF_HUB_CACHE to another disk. A download goes on where it stopped.',
})) {}

/** The folder of the cache cannot be written. */
export class ModelCacheError extends graftError('GRAFT_MODEL_CACHE_WRITE', (cause: string, where: string) => ({
  what: `The model cache cannot be written: ${cause}.`,
  where,
  fix: 'give this user the right to write there, or set HF_HUB_CACHE to another folder.',
})) {}
