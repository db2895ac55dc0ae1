import { EventBus } from '@graft/common';
import { RecompileRefusedError } from '../errors.ts';
import type { CapturedRegion } from '../graph.ts';
import { checkGuard, type Guard, type GuardFailure } from './guard.ts';
import { ReadPath } from './proxy.ts';
import type { Structure } from './pytree.ts';

/** One captured graph of a region with all that must hold for it to be used again. */
export interface CaptureEntry {
  readonly region: CapturedRegion;
  readonly guards: readonly Guard[];
  /** Element type, shape or null of each argument, by name. */
  readonly inputs: readonly InputFact[];
  readonly outputs: Structure;
}

export interface InputFact {
  readonly name: string;
  readonly text: string;
}

/** Entries for other arguments than asked for that a record speaks of; a region has as many as there are buckets. */
const latestInRecord = 8;

/** Why a graph could not be reused: of each entry for the same arguments, and of the latest others, the first guard that failed. */
export interface RecompileRecord {
  readonly region: string;
  readonly path: string;
  readonly failures: readonly (GuardFailure & { entry: string })[];
}

export interface CaptureEvents {
  'graph:capture': { region: string; path: string };
  'graph:recompile': RecompileRecord;
}

export type OnRecompile = 'allow' | 'warn' | 'fail';

/** The graphs of every region so far. `lookup` finds the one whose guards hold for a module and its arguments. */
export class CaptureCache {
  readonly events = new EventBus<CaptureEvents>();
  readonly recompiles: RecompileRecord[] = [];
  /**
   * What a further capture means. Null while graphs are expected: a region's first one is then no recompile. Once it is set, after warm-up, every
   * capture is one, also the first of a region.
   */
  onRecompile: OnRecompile | null = null;
  /** Where captures begin. */
  readonly root = new ReadPath();
  private readonly entries = new Map<string, CaptureEntry[]>();
  /** The same entries, of one region and for the same arguments together: a lookup tries only these. */
  private readonly byInputs = new Map<string, CaptureEntry[]>();
  private readonly limit: number;
  private readonly known: KnownGuards | null;

  /**
   * @param limit entries a region may have before a further one is refused.
   * @param isFrozen nothing patches a module while this cache is in use, so that a guard is evaluated once a module and not once a bucket.
   */
  constructor({ limit = 4096, isFrozen = false }: { limit?: number; isFrozen?: boolean } = {}) {
    this.limit = limit;
    this.known = isFrozen ? new KnownGuards() : null;
  }

  /** Whether the modules stay as they are while this cache is in use. */
  get isFrozen(): boolean {
    return this.known !== null;
  }

  /** Graphs captured so far, of one region or of all. */
  count(region?: string): number {
    return region === undefined
      ? [...this.entries.values()].reduce((sum, list) => sum + list.length, 0)
      : (this.entries.get(region)?.length ?? 0);
  }

  /** The regions that have a graph, in the order of their first. */
  regions(): string[] {
    return [...this.entries.keys()];
  }

  list(region: string): readonly CaptureEntry[] {
    return this.entries.get(region) ?? [];
  }

  /** The entry that serves this module, or a record of why none does. */
  lookup(region: string, path: string, module: object, inputs: readonly InputFact[]): CaptureEntry | RecompileRecord {
    const alike = this.byInputs.get(inputsKey(region, inputs)) ?? [];
    const found = alike.find(({ guards }) => this.known?.hold(guards, module) ?? firstBrokenGuard(guards, module) === null);
    if (found !== undefined) return found;
    const latest = this.list(region)
      .slice(-latestInRecord)
      .filter((entry) => !alike.includes(entry)); // those of the same arguments come last: they are the nearest
    const failures = [...latest, ...alike].map((entry) => failureOf(entry, module, inputs));
    if (failures.length === 0) failures.push({ ...this.noGraph(module), entry: region });
    return { region, path, failures };
  }

  /** Takes a new entry in, and reports it: as a recompile when there were others, or `onRecompile` is set. @throws RecompileRefusedError */
  add(record: RecompileRecord, capture: (name: string) => CaptureEntry): CaptureEntry {
    const list = this.entries.get(record.region) ?? [];
    if (list.length > 0 || this.onRecompile !== null) this.report(record);
    if (list.length >= this.limit) {
      throw new RecompileRefusedError(`Region "${record.region}" has ${list.length} graphs, the limit.`, record.path);
    }
    const captured = capture(`${record.region}#${list.length}`);
    const entry = this.known === null ? captured : { ...captured, guards: this.known.shared(captured.guards) };
    append(this.entries, record.region, entry);
    append(this.byInputs, inputsKey(record.region, entry.inputs), entry);
    this.events.emit('graph:capture', { region: record.region, path: record.path });
    return entry;
  }

  /** Of a region without a graph: the module is none of those that have one. */
  private noGraph(module: object): GuardFailure {
    const expected = this.entries.size === 0 ? 'a captured region' : `a module of a captured region: ${this.regions().join(', ')}`;
    return { kind: 'class', path: '', expected, actual: module.constructor.name };
  }

  private report(record: RecompileRecord): void {
    if (this.onRecompile === 'fail') {
      const { path, actual, expected } = record.failures.at(-1)!;
      const which = this.count(record.region) === 0 ? 'a graph and has none' : 'another graph';
      throw new RecompileRefusedError(
        `Region "${record.region}" needs ${which}: ${path || 'it'} is ${actual}, expected ${expected}.`,
        record.path,
      );
    }
    this.recompiles.push(record);
    this.events.emit('graph:recompile', record);
  }
}

/** Lists of guards, each held once, and for which modules they hold. Captures of one module at other shapes leave the same list behind. */
class KnownGuards {
  private readonly lists: { guards: readonly Guard[]; holds: Map<object, boolean> }[] = [];

  shared(guards: readonly Guard[]): readonly Guard[] {
    const known = this.lists.find((list) => sameGuards(list.guards, guards));
    if (known !== undefined) return known.guards;
    this.lists.push({ guards, holds: new Map() });
    return guards;
  }

  hold(guards: readonly Guard[], module: object): boolean {
    const { holds } = this.lists.find((list) => list.guards === guards)!;
    const known = holds.get(module);
    if (known !== undefined) return known;
    const isHeld = firstBrokenGuard(guards, module) === null;
    holds.set(module, isHeld);
    return isHeld;
  }
}

function sameGuards(a: readonly Guard[], b: readonly Guard[]): boolean {
  return a.length === b.length && a.every((guard, i) => sameGuard(guard, b[i]!));
}

function sameGuard(a: Guard, b: Guard): boolean {
  return (
    a === b ||
    (a.kind === b.kind &&
      Object.is(a.identity, b.identity) &&
      a.keys.length === b.keys.length &&
      a.keys.every((key, i) => key === b.keys[i]))
  );
}

function append(lists: Map<string, CaptureEntry[]>, key: string, entry: CaptureEntry): void {
  const list = lists.get(key);
  if (list === undefined) lists.set(key, [entry]);
  else list.push(entry);
}

function inputsKey(region: string, inputs: readonly InputFact[]): string {
  let key = region;
  for (const { name, text } of inputs) key += `\u0000${name}\u0000${text}`;
  return key;
}

/** Why an entry does not serve: its arguments are compared first, then its guards in the order in which `forward` read. */
function failureOf({ region, ...entry }: CaptureEntry, module: object, inputs: readonly InputFact[]): GuardFailure & { entry: string } {
  const failure = inputFailures(entry.inputs, inputs)[0] ?? firstBrokenGuard(entry.guards, module)!;
  return { ...failure, entry: region.name };
}

/** Arguments that differ: by name, type, shape, null or number. */
export function inputFailures(expected: readonly InputFact[], actual: readonly InputFact[]): GuardFailure[] {
  const failures: GuardFailure[] = [];
  for (const [i, { name, text }] of expected.entries()) {
    const other = actual[i];
    if (other?.text === text && other.name === name) continue;
    failures.push({ kind: 'input', path: name, expected: text, actual: other?.text ?? 'not given' });
  }
  for (const { name, text } of actual.slice(expected.length))
    failures.push({ kind: 'input', path: name, expected: 'not given', actual: text });
  return failures;
}

function firstBrokenGuard(guards: readonly Guard[], module: object): GuardFailure | null {
  for (const guard of guards) {
    const failure = checkGuard(guard, module);
    if (failure !== null) return failure;
  }
  return null;
}
