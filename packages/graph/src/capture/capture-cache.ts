import { EventBus } from '@graft/common';
import { RecompileRefusedError } from '../errors.ts';
import type { CapturedRegion } from '../graph.ts';
import { checkGuard, type Guard, type GuardFailure } from './guard.ts';
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

/** Why a graph could not be reused: for each entry there was, the first guard that failed. */
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
  /** After warm-up: what a further capture means. */
  onRecompile: OnRecompile = 'allow';
  private readonly entries = new Map<string, CaptureEntry[]>();
  private readonly limit: number;

  /** @param limit entries a region may have before a further one is refused. */
  constructor({ limit = 4096 }: { limit?: number } = {}) {
    this.limit = limit;
  }

  /** Graphs captured so far, of one region or of all. */
  count(region?: string): number {
    return region === undefined
      ? [...this.entries.values()].reduce((sum, list) => sum + list.length, 0)
      : (this.entries.get(region)?.length ?? 0);
  }

  list(region: string): readonly CaptureEntry[] {
    return this.entries.get(region) ?? [];
  }

  /** The entry that serves this module, or a record of why none does. */
  lookup(region: string, path: string, module: object, inputs: readonly InputFact[]): CaptureEntry | RecompileRecord {
    const failures: (GuardFailure & { entry: string })[] = [];
    for (const entry of this.list(region)) {
      const failure = firstFailure(entry, module, inputs);
      if (failure === null) return entry;
      failures.push({ ...failure, entry: entry.region.name });
    }
    return { region, path, failures };
  }

  /** Takes a new entry in, and reports it: as a recompile when there were others. @throws RecompileRefusedError */
  add(record: RecompileRecord, capture: (name: string) => CaptureEntry): CaptureEntry {
    const list = this.entries.get(record.region) ?? [];
    if (list.length > 0) this.report(record);
    if (list.length >= this.limit) {
      throw new RecompileRefusedError(`Region "${record.region}" has ${list.length} graphs, the limit.`, record.path);
    }
    const entry = capture(`${record.region}#${list.length}`);
    this.entries.set(record.region, [...list, entry]);
    this.events.emit('graph:capture', { region: record.region, path: record.path });
    return entry;
  }

  private report(record: RecompileRecord): void {
    if (this.onRecompile === 'fail') {
      const last = record.failures.at(-1);
      throw new RecompileRefusedError(
        `Region "${record.region}" needs another graph: ${last?.path ?? 'its inputs'} is ${last?.actual ?? 'different'}, expected ${last?.expected ?? 'the captured ones'}.`,
        record.path,
      );
    }
    this.recompiles.push(record);
    this.events.emit('graph:recompile', record);
  }
}

function firstFailure(entry: CaptureEntry, module: object, inputs: readonly InputFact[]): GuardFailure | null {
  for (const [i, expected] of entry.inputs.entries()) {
    const actual = inputs[i];
    if (actual?.text !== expected.text || actual.name !== expected.name) {
      return { kind: 'input', path: expected.name, expected: expected.text, actual: actual?.text ?? 'not given' };
    }
  }
  if (inputs.length > entry.inputs.length) {
    const extra = inputs[entry.inputs.length]!;
    return { kind: 'input', path: extra.name, expected: 'not given', actual: extra.text };
  }
  for (const guard of entry.guards) {
    const failure = checkGuard(guard, module);
    if (failure !== null) return failure;
  }
  return null;
}
