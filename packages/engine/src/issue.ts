import { nearestNames } from '@graft/registry';
import type { z } from 'zod';

export interface IssueWords {
  what: string;
  /** The key's path, as `sampling.topP`; empty for the whole. */
  where: string;
  /** For a wrong name, the nearest ones. */
  fix: string | undefined;
}

/** The first thing wrong with what was given, in the words of our errors. */
export function describeIssue(error: z.ZodError, names: readonly string[]): IssueWords {
  const { path, message, keys } = deepest(error.issues[0]!);
  const [key] = keys;
  if (key === undefined) return { what: `${message}.`, where: path.join('.'), fix: undefined };
  const nearest = nearestNames(key, names).map((name) => `"${name}"`);
  return { what: `"${key}" is no key here.`, where: [...path, key].join('.'), fix: `did you mean ${nearest.join(', ')}?` };
}

interface Issue {
  path: PropertyKey[];
  message: string;
  /** Those that the schema does not have. */
  keys: string[];
}

/** A failed union says little; the branch that got furthest into the value says what is wrong. */
function deepest(issue: z.core.$ZodIssue): Issue {
  const own: Issue = { path: issue.path, message: issue.message, keys: issue.code === 'unrecognized_keys' ? issue.keys : [] };
  if (issue.code !== 'invalid_union') return own;
  const branches = issue.errors.flatMap((branch) => branch.slice(0, 1).map(deepest));
  const furthest = branches.reduce<Issue | null>((best, one) => (one.path.length > (best?.path.length ?? 0) ? one : best), null);
  return furthest === null ? own : { ...furthest, path: [...issue.path, ...furthest.path] };
}
