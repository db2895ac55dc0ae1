import { JinjaError } from './values.ts';

const leastSteps = 10_000_000;
const stepsPerInputCharacter = 64;
/** A step is about the work for an operand, an item of a list, or this many characters of a text. */
const charactersPerStep = 4;
/** A search compares a whole part at each position in the worst case, yet fast. */
const comparisonsPerStep = 1024;

/** Steps left to the rendering that runs. A rendering is synchronous, so one count serves all templates. */
let left = 0;

/** Starts a rendering. @param inputLength characters of its variables; a long chat may take more steps. */
export function startBudget(inputLength: number): void {
  left = leastSteps + stepsPerInputCharacter * inputLength;
}

/** Bounds the time and the memory that a template takes, whatever it says. @throws JinjaError when the rendering has no steps left */
export function spend(steps = 1): void {
  left -= steps;
  if (left < 0) throw new JinjaError('the template takes too many steps, or makes too much text, for an input of this length');
}

/** For work that grows with the length of texts, lists and dicts. */
export function spendOn(...values: readonly unknown[]): void {
  spend(1 + values.reduce<number>((sum, value) => sum + sizeOf(value), 0) / charactersPerStep);
}

function sizeOf(value: unknown): number {
  if (typeof value === 'string' || Array.isArray(value)) return value.length;
  return value instanceof Map ? value.size : 0;
}

/** For a search of `part` in `whole`. */
export function spendOnSearch(whole: string, part: string): void {
  spend(1 + whole.length / charactersPerStep + (whole.length * part.length) / comparisonsPerStep);
}

/** `text` as often as asked; nothing for a negative number. */
export function repeat(text: string, times: number): string {
  spend((text.length * Math.max(0, times)) / charactersPerStep);
  return text.repeat(Math.max(0, times));
}

export function join(parts: readonly string[], separator: string): string {
  spend(parts.reduce((length, part) => length + part.length + separator.length, 0) / charactersPerStep);
  return parts.join(separator);
}
