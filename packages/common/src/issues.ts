import * as z from 'zod';
import { meantNames, nearestNames, quotedList } from './names.ts';

export const functionSchema = <F>() =>
  z.custom<F>((value) => typeof value === 'function', { error: ({ input }) => `must be a function, not ${kindOf(input)}` });

/** A value in two words, for an error: `a promise`, `the class X`, `an array`, `undefined`. */
export function kindOf(value: unknown): string {
  if (typeof value === 'function')
    return /^class\b/.test(Function.prototype.toString.call(value)) ? `the class ${value.name}` : 'a function';
  if (value instanceof Promise) return 'a promise';
  if (Array.isArray(value)) return 'an array';
  if (typeof value !== 'object' || value === null) return typeof value === 'string' ? `"${value}"` : String(value);
  const name = value.constructor?.name ?? 'Object';
  const keys = Object.keys(value);
  return name === 'Object'
    ? `an object ${keys.length === 0 ? 'without keys' : `with ${quotedList(keys.slice(0, 3), '', 'and')}`}`
    : `an instance of ${name}`;
}

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
  const result = schema.safeParse(value, { reportInput: true });
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
    const known = keysAt(schema, issue.path);
    const meant = meantNames(key, known);
    const [elsewhere] = meant.length > 0 ? [] : placesOf(key, schema);
    const fix =
      meant.length > 0
        ? `did you mean ${quotedList(meant)}?`
        : known.length > 0
          ? `the keys are ${quotedList(known, '', 'and')}.`
          : undefined;
    return {
      what: `"${key}" is not a key here.`,
      where: [...where, key].join('.'),
      fix: placeKey(key, issue.path) ?? (elsewhere === undefined ? fix : `it is a key of "${elsewhere}".`),
    };
  }
  if (issue.code === 'invalid_value' && issue.values.length > 1 && typeof issue.input === 'string') {
    const fix = `did you mean ${quotedList(nearestNames(issue.input, issue.values.map(String), 1))}?`;
    return { what: `${issue.message}.`, where: where.join('.'), fix };
  }
  const isBareElement = issue.code === 'invalid_type' && issue.expected === 'array' && typeof issue.input === 'string';
  return { what: `${issue.message}.`, where: where.join('.'), fix: isBareElement ? `write ["${issue.input}"].` : undefined };
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

/** The keys of a schema below which a key is known, nearest to the root first. */
function placesOf(key: string, schema: z.core.$ZodType, at: readonly string[] = []): string[] {
  const deeper = at.length > 2 ? [] : keysAt(schema, at);
  const found = at.length > 0 && deeper.includes(key) ? [at.join('.')] : [];
  return [...found, ...deeper.flatMap((name) => placesOf(key, schema, [...at, name]))].sort(
    (a, b) => a.split('.').length - b.split('.').length,
  );
}

/** The keys that a schema knows in the value at a path. An element of a list needs no index. */
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
  if (shape === undefined && def['element'] !== undefined && typeof first !== 'number')
    return keysAt(def['element'] as z.core.$ZodType, path);
  if (first === undefined) return Object.keys(shape ?? {});
  return keysAt(shape?.[String(first)] ?? ((def['element'] ?? def['valueType']) as z.core.$ZodType | undefined), rest);
}
