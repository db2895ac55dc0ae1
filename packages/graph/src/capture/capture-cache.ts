import { EventBus } from '@graft/common';
import { RecompileRefusedError } from '../errors.ts';
import type { CapturedRegion } from '../graph.ts';
import { checkGuard, type Guard, type GuardFailure } from './guard.ts';
import { ReadPath } from './proxy.ts';
import type { Structure } from './pytree.ts';

/** One captured graph of a region, with the conditions for its reuse. */
export interface CaptureEntry {
  readonly region: CapturedRegion;
  readonly guards: readonly Guard[];
  /** Element type, shape or null of each argument, with its name. */
  readonly inputs: readonly InputFact[];
  readonly outputs: Structure;
}

export interface InputFact {
  readonly name: string;
  readonly text: string;
}

/** The most entries for other arguments that a record lists; a region has as many as there are buckets. */
const latestInRecord = 8;

/** Why no graph could be reused: the first guard that failed, for each entry for the same arguments and for the latest other entries. */
export interface RecompileRecord {
  readonly region: string;
  readonly path: string;
  readonly failures: readonly (GuardFailure & { entry: string })[];
}

/** A call of a region, as a lookup compares it. */
export interface RegionLookup {
  readonly region: string;
  readonly path: string;
  readonly module: object;
  readonly inputs: readonly InputFact[];
}

export interface CaptureEvents {
  'graph:capture': { region: string; path: string };
  'graph:recompile': RecompileRecord;
}

export type OnRecompile = 'allow' | 'warn' | 'fail';

/** The graphs of every region so far, each with the guards that decide whether it serves a module and its arguments. */
export class CaptureCache {
  readonly events = new EventBus<CaptureEvents>();
  readonly recompiles: RecompileRecord[] = [];
  /**
   * The reaction to a further capture. Null while graphs are expected: a region's first graph then does not count as a recompile. Once it is set, after
   * warm-up, every capture is a recompile, also the first of a region.
   */
  onRecompile: OnRecompile | null = null;
  /** The root path of all captures. */
  readonly root = new ReadPath();
  private readonly entries = new Map<string, CaptureEntry[]>();
  /** The same entries, grouped by region and arguments: a lookup tries one group. */
  private readonly byInputs = new Map<string, CaptureEntry[]>();
  private readonly limit: number;
  private readonly known: KnownGuards | null;

  /**
   * @param options `limit`: the most entries of a region. `isFrozen`: nothing patches a module while this cache is in use, so a guard is evaluated once for
   * each module and not for each bucket.
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
    return region === undefined ? [...this.entries.values()].flat().length : this.list(region).length;
  }

  /** The regions that have a graph, in the order of their first. */
  regions(): string[] {
    return [...this.entries.keys()];
  }

  list(region: string): readonly CaptureEntry[] {
    return this.entries.get(region) ?? [];
  }

  /**
   * The entry whose guards hold for a call; else the one that `capture` gives, reported as a recompile when the region had others or `onRecompile` is set.
   * @throws RecompileRefusedError
   */
  entryFor(call: RegionLookup, capture: (name: string) => CaptureEntry): CaptureEntry {
    const { region, path, module, inputs } = call;
    const key = inputsKey(region, inputs);
    const alike = this.byInputs.get(key) ?? [];
    const found = alike.find(({ guards }) => this.known?.hold(guards, module) ?? firstBrokenGuard(guards, module) === null);
    if (found !== undefined) return found;
    const { length } = this.list(region);
    if (length > 0 || this.onRecompile !== null) this.report(this.recordOf(call, alike));
    if (length >= this.limit) throw new RecompileRefusedError(`Region "${region}" has ${length} graphs, the limit.`, path);
    const captured = capture(`${region}#${length}`);
    const entry = this.known === null ? captured : { ...captured, guards: this.known.shared(captured.guards) };
    append(this.entries, region, entry);
    append(this.byInputs, key, entry);
    this.events.emit('graph:capture', { region, path });
    return entry;
  }

  /** Why no entry serves a call. @param alike the entries for the same arguments; they come last, since they are the nearest. */
  private recordOf({ region, path, module, inputs }: RegionLookup, alike: readonly CaptureEntry[]): RecompileRecord {
    const latest = this.list(region)
      .slice(-latestInRecord)
      .filter((entry) => !alike.includes(entry));
    const failures = [...latest, ...alike].map((entry) => failureOf(entry, module, inputs));
    return { region, path, failures: failures.length > 0 ? failures : [{ ...this.noGraph(module), entry: region }] };
  }

  /** For a region without a graph: the module belongs to no region that has one. */
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

/** Distinct lists of guards, and the modules for which each holds. Captures of one module at other shapes have equal lists. */
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

/** Why an entry does not serve. Compares its arguments first, then its guards in the order in which `forward` read. */
function failureOf({ region, ...entry }: CaptureEntry, module: object, inputs: readonly InputFact[]): GuardFailure & { entry: string } {
  const failure = inputFailures(entry.inputs, inputs)[0] ?? firstBrokenGuard(entry.guards, module)!;
  return { ...failure, entry: region.name };
}

/** Arguments that differ: by name, type, shape, null or number. */
export function inputFailures(expected: readonly InputFact[], actual: readonly InputFact[]): GuardFailure[] {
  return Array.from({ length: Math.max(expected.length, actual.length) }).flatMap((_, i) => {
    const [one, other] = [expected[i], actual[i]];
    if (one?.name === other?.name && one?.text === other?.text) return [];
    const path = (one ?? other)!.name;
    return [{ kind: 'input' as const, path, expected: one?.text ?? 'not given', actual: other?.text ?? 'not given' }];
  });
}

function firstBrokenGuard(guards: readonly Guard[], module: object): GuardFailure | null {
  for (const guard of guards) {
    const failure = checkGuard(guard, module);
    if (failure !== null) return failure;
  }
  return null;
}
