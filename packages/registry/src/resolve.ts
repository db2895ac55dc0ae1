import { messageOf, nearestNames, quotedList } from '@graft/common';
import type { Owner } from '@graft/services';
import { OverrideConditionError, RegistrationConflictError } from './errors.ts';
import type { Detected } from './platform.ts';
import type { PluginHook } from './plugin.ts';
import type { DeclaredClass, OverrideEntry } from './registration.ts';
import type { Candidate, CandidateReason, ResolvedHook, ResolvedLayer } from './resolution.ts';

export interface ResolveContext {
  /** The name of the active platform; null for upstream alone. */
  readonly platform: string | null;
  readonly mode?: string | null;
  /** The answer of the platform's detector, for `when`. Without it an override that has a `when` does not serve. */
  readonly device?: Detected | null;
  /** Hooks and overrides to leave out, as `plugin: name`; an override's name is what it overrides. */
  readonly without?: readonly string[];
  /** Fails where nothing but upstream would serve. */
  readonly requireOverride?: boolean;
}

/** The context, with the platforms that the loaded plugins bring; null where they are not known. */
export interface ResolveFacts extends ResolveContext {
  readonly knownPlatforms: readonly string[] | null;
}

export interface RegisteredHook extends PluginHook {
  readonly owner: Owner;
  /** `plugin: name of its function`, or `plugin: hook 2`. */
  readonly name: string;
}

/** A class with its candidates as records, and the overrides that may serve, by rising priority. */
export interface ResolvedClass {
  readonly target: DeclaredClass;
  readonly rows: readonly { readonly entry: OverrideEntry | null; readonly record: Candidate }[];
  readonly applicable: readonly OverrideEntry[];
}

type Outcome<Reason extends string = CandidateReason> = { readonly reason: Reason; readonly detail: string };

/**
 * Judges every override of a class.
 * @throws RegistrationConflictError where two that apply have one priority; OverrideConditionError where a `when` threw, or gave neither a boolean nor a reason.
 */
export function resolveClass(target: DeclaredClass, overrides: readonly OverrideEntry[], facts: ResolveFacts): ResolvedClass {
  const refusals = new Map(overrides.map((entry) => [entry, refusalOf(entry, facts)]));
  const applicable = overrides.filter((entry) => refusals.get(entry) === null).sort((a, b) => a.priority - b.priority);
  for (const [index, entry] of applicable.entries()) {
    const rival = applicable.slice(0, index).find((other) => conflicts(entry, other));
    if (rival !== undefined) throw new RegistrationConflictError(rival, entry);
  }
  const chain = unscoped({ applicable });
  const above = chain[0];
  const upstream: Outcome =
    above === undefined
      ? { reason: 'selected', detail: upstreamDetail(target, overrides, facts) }
      : { reason: 'base', detail: baseDetail(above) };
  const rows = overrides.map((entry) => ({ entry, record: candidateOf(target, entry, refusals.get(entry) ?? rankOf(entry, chain)) }));
  return { target, rows: [{ entry: null, record: candidateOf(target, null, upstream) }, ...rows], applicable };
}

/** The overrides that build on each other, from the lowest priority up: a plain subclass starts from upstream again, a factory stacks. */
export function chainOf(applicable: readonly OverrideEntry[]): readonly OverrideEntry[] {
  const start = applicable.findLastIndex(({ kind }) => kind === 'subclass');
  return applicable.slice(Math.max(start, 0));
}

/** The chain where no scope applies. */
export function unscoped({ applicable }: Pick<ResolvedClass, 'applicable'>): readonly OverrideEntry[] {
  return chainOf(applicable.filter(({ within }) => within.length === 0));
}

/** Whether both can serve in one place at one priority. */
export function conflicts(a: OverrideEntry, b: OverrideEntry): boolean {
  const overlap = <T>(one: readonly T[] | null, other: readonly T[] | null) =>
    !one?.length || !other?.length || one.some((x) => other.includes(x));
  return (
    a.target === b.target &&
    a.platform === b.platform &&
    a.priority === b.priority &&
    overlap(a.modes, b.modes) &&
    overlap(a.within, b.within)
  );
}

export function classRecord(one: ResolvedClass, renew: (entry: OverrideEntry | null) => Partial<Candidate> = () => ({})): ResolvedLayer {
  const { target, rows } = one;
  const candidates = rows.map(({ entry, record }) => ({ ...record, ...renew(entry) }));
  const chain = [null, ...unscoped(one)].map((link) => candidates[rows.findIndex(({ entry }) => entry === link)]!);
  return { name: target.name, plugin: target.owner.plugin, kind: target.kind, chain, candidates };
}

export function resolveHook({ owner, name, of, platform, phase, ...hook }: RegisteredHook, facts: ResolveFacts): ResolvedHook {
  const modes = hook.modes ?? null;
  const outcome = notHere({ platform, modes }, facts) ??
    switchedOff(name, facts) ?? { reason: 'runs' as const, detail: `serves platform "${platform}"` };
  return { plugin: owner.plugin, hook: name, of, platform, phase, modes: modes === null ? null : [...modes], ...outcome };
}

function refusalOf(entry: OverrideEntry, facts: ResolveFacts): Outcome | null {
  return notHere(entry, facts) ?? switchedOff(overrideName(entry), facts) ?? conditionOf(entry, facts);
}

/** As `--without` names it. */
export const overrideName = ({ owner, target }: Pick<OverrideEntry, 'owner' | 'target'>): string => `${owner.plugin}: ${target.name}`;

function notHere(
  { platform, modes }: { platform: string; modes: readonly string[] | null },
  facts: ResolveFacts,
): Outcome<'other-platform' | 'other-mode'> | null {
  if (platform !== facts.platform) return { reason: 'other-platform', detail: otherPlatformDetail(platform, facts) };
  if (modes === null || (facts.mode != null && modes.includes(facts.mode))) return null;
  return { reason: 'other-mode', detail: `serves mode ${quotedList(modes)}, not ${facts.mode == null ? 'none' : `"${facts.mode}"`}` };
}

function otherPlatformDetail(platform: string, { platform: asked, knownPlatforms }: ResolveFacts): string {
  if (knownPlatforms === null || knownPlatforms.includes(platform)) {
    return `serves platform "${platform}"${asked === null ? '; upstream was asked for' : `, not "${asked}"`}`;
  }
  return `no loaded plugin brings platform "${platform}" (nearest: ${quotedList(nearestNames(platform, knownPlatforms, 1))})`;
}

function switchedOff(name: string, { without = [] }: ResolveFacts): Outcome<'without'> | null {
  return without.includes(name) ? { reason: 'without', detail: `switched off: --without "${name}"` } : null;
}

function conditionOf(entry: OverrideEntry, { device = null }: ResolveFacts): Outcome | null {
  if (entry.when === null) return null;
  if (device === null) return { reason: 'condition', detail: 'its `when` asks for the device, and none was detected' };
  let answer: unknown; // a plugin in JavaScript may answer anything
  try {
    answer = entry.when(device);
  } catch (cause) {
    throw new OverrideConditionError(entry, `threw: ${messageOf(cause)}`, cause);
  }
  if (answer === true) return null;
  if (answer !== false && typeof answer !== 'string') {
    const given = answer instanceof Promise ? 'a promise, and is not awaited' : answer === null ? 'null' : typeof answer;
    throw new OverrideConditionError(entry, `gave ${given}.`);
  }
  return {
    reason: 'condition',
    detail: `its \`when\` refused this device${answer === false || answer.trim() === '' ? '' : `: ${answer}`}`,
  };
}

function rankOf(entry: OverrideEntry, chain: readonly OverrideEntry[]): Outcome {
  const at = chain.indexOf(entry);
  if (at >= 0 && at === chain.length - 1) {
    return { reason: 'selected', detail: `the highest priority (${entry.priority}) on platform "${entry.platform}"` };
  }
  if (at >= 0) return { reason: 'base', detail: baseDetail(chain[at + 1]!) };
  if (entry.within.length > 0)
    return { reason: 'scoped', detail: `serves within ${entry.within.map(({ name }) => name).join(' and ')} alone` };
  const detail = `${nameOf(chain[0]!)} has a higher priority and is a plain subclass, on which nothing below it stacks`;
  return { reason: 'outranked', detail };
}

const baseDetail = (above: OverrideEntry): string => `the class that ${nameOf(above)} builds on`;
const nameOf = ({ kind, owner }: OverrideEntry): string => `the ${kind} of plugin "${owner.plugin}"`;

function upstreamDetail({ name }: DeclaredClass, overrides: readonly OverrideEntry[], { platform }: ResolveFacts): string {
  if (platform === null) return 'upstream was asked for';
  return overrides.some((entry) => entry.platform === platform)
    ? `no override of ${name} for platform "${platform}" applies everywhere`
    : `no override of ${name} serves platform "${platform}"`;
}

const upstreamFacts = {
  kind: 'upstream',
  platform: null,
  priority: null,
  within: [],
  modes: null,
  required: false,
  reliesOn: null,
} as const;

/** @param entry null for upstream itself. */
function candidateOf(target: DeclaredClass, entry: OverrideEntry | null, outcome: Outcome): Candidate {
  const { kind, platform, priority, within, modes, required, reliesOn } = entry ?? upstreamFacts;
  const facts = { kind, platform, priority, within: within.map(({ name }) => name), modes: modes === null ? null : [...modes], required };
  const contract = reliesOn === null ? 'none' : 'not checked';
  return { ...(entry ?? target).owner, ...facts, ...outcome, className: null, contract, contractNotes: [], replaced: null };
}
