import { distance } from 'fastest-levenshtein';

/** The names closest to `name` by edit distance, nearest first; ties in alphabetical order. */
export function nearestNames(name: string, known: Iterable<string>, count = 3): string[] {
  return byDistance(name, known)
    .slice(0, count)
    .map(({ candidate }) => candidate);
}

/** At most three known names that a typo may have meant: at most a third of the letters differ, or it begins with the name. */
export function meantNames(name: string, known: Iterable<string>): string[] {
  const most = Math.max(name.length > 3 ? 2 : 1, Math.floor(name.length / 3)); // two: letters in the wrong order
  const isStart = (candidate: string) => name.length > 3 && candidate.toLowerCase().startsWith(name.toLowerCase());
  return byDistance(name, known)
    .filter(({ candidate, edits }) => edits <= most || isStart(candidate))
    .slice(0, 3)
    .map(({ candidate }) => candidate);
}

/** ` (nearest: "a" or "b")`, of the names that a typo may have meant; empty where no name is near. */
export function nearestText(meant: readonly string[]): string {
  return meant.length === 0 ? '' : ` (nearest: ${quotedList(meant)})`;
}

function byDistance(name: string, known: Iterable<string>): { candidate: string; edits: number }[] {
  return [...new Set(known)]
    .map((candidate) => ({ candidate, edits: distance(name.toLowerCase(), candidate.toLowerCase()) }))
    .sort((a, b) => a.edits - b.edits || (a.candidate < b.candidate ? -1 : 1));
}

/** `"a", "b" or "c"`, for the end of a sentence. */
export function quotedList(names: readonly string[], none = 'none', conjunction = 'or'): string {
  const quoted = names.map((name) => `"${name}"`);
  if (quoted.length === 0) return none;
  if (quoted.length === 1) return quoted[0]!;
  return `${quoted.slice(0, -1).join(', ')} ${conjunction} ${quoted.at(-1)}`;
}

/** `now there is "a", "b"`: the nearest of the names that are there in place of one that is gone. */
export function nowText(name: string, known: Iterable<string>): string {
  const nearest = nearestNames(name, known).map((one) => `"${one}"`);
  return nearest.length === 0 ? 'nothing is there now' : `now there is ${nearest.join(', ')}`;
}
