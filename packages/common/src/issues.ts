import * as z from 'zod';
import { nearestNames, quotedList } from './names.ts';

export const functionSchema = <F>() => z.custom<F>((value) => typeof value === 'function', 'must be a function');
export const nonEmpty = z.string().min(1, 'must not be empty');

export interface IssueWords {
  what: string;
  /** The key's path, as `sampling.topP`; empty for the whole. */
  where: string;
  /** For a wrong key or a wrong choice, the nearest ones. */
  fix: string | undefined;
}

/** Where an unknown key at a path belongs, as an error's fix. Undefined: unknown there too. */
export type PlaceKey = (key: string, path: readonly PropertyKey[]) => string | undefined;

/** The first thing wrong with a value, in the words of our errors; an unknown key comes first, since a misspelt one is missing as well. */
export function describeIssue({ issues }: z.ZodError, schema: z.ZodType, placeKey: PlaceKey = () => undefined): IssueWords {
  return issueWords(deepest(first(issues)), schema, placeKey);
}

/**
 * A value as its schema gives it, or an error that names all that is wrong, each as `key: problem`; of many, the first.
 * @param name of the value itself.
 */
export function expectValid<S extends z.ZodType>(schema: S, value: unknown, name: string, error: (problems: string) => Error): z.output<S> {
  const result = schema.safeParse(value);
  if (result.success) return result.data;
  const most = 5;
  const { issues } = result.error;
  const texts = issues.slice(0, most).map((issue) => {
    const { what, where, fix } = issueWords(deepest(issue), schema);
    return `${where || name}: ${what.slice(0, -1)}${fix === undefined ? '' : ` (${fix.slice(0, -1)})`}`;
  });
  throw error([...texts, ...(issues.length > most ? [`and ${issues.length - most} more`] : [])].join('; '));
}

function issueWords(issue: z.core.$ZodIssue, schema: z.ZodType, placeKey: PlaceKey = () => undefined): IssueWords {
  const where = issue.path.map(String);
  if (issue.code === 'unrecognized_keys') {
    const key = issue.keys[0]!;
    const nearest = nearestNames(key, keysAt(schema, issue.path));
    return {
      what: `"${key}" is not a key here.`,
      where: [...where, key].join('.'),
      fix:
        placeKey(key, issue.path) ?? (nearest.length === 0 ? undefined : `did you mean ${nearest.map((name) => `"${name}"`).join(', ')}?`),
    };
  }
  if (issue.code === 'invalid_value' && issue.values.length > 1 && typeof issue.input === 'string') {
    const fix = `did you mean ${quotedList(nearestNames(issue.input, issue.values.map(String), 1))}?`;
    return { what: `${issue.message}.`, where: where.join('.'), fix };
  }
  return { what: `${issue.message}.`, where: where.join('.'), fix: undefined };
}

const first = (issues: readonly z.core.$ZodIssue[]): z.core.$ZodIssue =>
  issues.find(({ code }) => code === 'unrecognized_keys') ?? issues[0]!;

/**
 * A failed union says little. Of its branches, the one whose keys fit the value best says what is wrong, and of several the one that got furthest into
 * the value.
 */
function deepest(issue: z.core.$ZodIssue): z.core.$ZodIssue {
  if (issue.code === 'invalid_key') return { ...issue, message: issue.issues[0]?.message ?? issue.message };
  if (issue.code !== 'invalid_union') return issue;
  const misfits = issue.errors.map(
    (branch) => branch.filter(({ code, message }) => code === 'unrecognized_keys' || /undefined$/.test(message)).length,
  );
  const fitting = issue.errors.filter((_, i) => misfits[i] === Math.min(...misfits));
  const branches = fitting.map((branch) => deepest(first(branch)));
  const depth = ({ path, code }: z.core.$ZodIssue): number => path.length + (code === 'unrecognized_keys' ? 1 : 0);
  const furthest = branches.reduce<z.core.$ZodIssue | null>(
    (best, one) => (depth(one) > (best === null ? 0 : depth(best)) ? one : best),
    null,
  );
  if (furthest !== null) return { ...furthest, path: [...issue.path, ...furthest.path] };
  return { ...issue, message: [...new Set(branches.map(({ message }) => message))].join('; or ') || issue.message };
}

/** The keys that a schema knows in the value at a path. */
export function keysAt(schema: z.core.$ZodType | undefined, path: readonly PropertyKey[]): string[] {
  if (schema === undefined) return [];
  const def = schema._zod.def as unknown as Record<string, unknown>;
  const inner = (def['innerType'] ?? def['in'] ?? (typeof def['getter'] === 'function' ? (def['getter'] as () => unknown)() : undefined)) as
    | z.core.$ZodType
    | undefined;
  if (inner !== undefined) return keysAt(inner, path);
  if (Array.isArray(def['options'])) return (def['options'] as z.core.$ZodType[]).flatMap((option) => keysAt(option, path));
  const [first, ...rest] = path;
  const shape = def['shape'] as Record<string, z.core.$ZodType> | undefined;
  if (first === undefined) return Object.keys(shape ?? {});
  return keysAt(shape?.[String(first)] ?? ((def['element'] ?? def['valueType']) as z.core.$ZodType | undefined), rest);
}
