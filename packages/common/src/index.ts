export { noteCopy, requireOneCopy, TwoCopiesError } from './copies.ts';
export { type EvictionLimits, evictCacheEntries, useCacheEntry } from './disk-cache.ts';
export { Disposables, DisposedError, NativeResource } from './disposal.ts';
export { GraftError, type GraftErrorFacts, type GraftErrorRecord, graftError, messageOf, UncaughtError, wordedError } from './errors.ts';
export { EventBus } from './events.ts';
export { describeIssue, expectValid, functionSchema, keysAt, kindOf, nonEmpty, type PlaceKey } from './issues.ts';
export { meantNames, nearestNames, nearestText, nowText, quotedList } from './names.ts';
