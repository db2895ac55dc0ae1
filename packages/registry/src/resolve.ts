import type { ModelCapabilities } from './capabilities.ts';
import { type ContractReport, type ContractSubject, checkContract } from './contract.ts';
import { ContractBrokenError } from './contract-errors.ts';
import type { ClassLoader } from './load-class.ts';
import type { ModelClass } from './model.ts';
import { nearestNames } from './names.ts';
import type { RetiredArchitecture } from './plugin.ts';
import type { OverrideEntry, Owner, Registration, UpstreamEntry } from './registration.ts';
import type { CandidateReason, CandidateRecord, ChainRecord, PassedOverRecord, ResolutionRecord } from './resolution-record.ts';

export interface ResolveContext {
  /** The name of the active platform. */
  readonly platform: string;
  /** The execution mode, for hooks; it does not change which class is chosen. */
  readonly mode?: string;
}

interface ResolutionFacts {
  requested: readonly string[];
  passedOver: readonly PassedOverRecord[];
  upstream: UpstreamEntry;
  overrides: readonly OverrideEntry[];
  /** null: upstream alone was asked for. */
  platform: string | null;
  mode: string | null;
  classes: ClassLoader;
}

/** Which class runs an architecture, and why: the chain from upstream to the class that is built, and every candidate with one reason. */
export class Resolution {
  readonly architecture: string;
  readonly platform: string | null;
  readonly mode: string | null;
  readonly capabilities: ModelCapabilities;
  /** The names that were asked for, and why those before `architecture` were passed over. */
  readonly requested: readonly string[];
  readonly passedOver: readonly PassedOverRecord[];
  private readonly links: readonly Registration[];
  private readonly classes: ClassLoader;
  private readonly upstream: UpstreamEntry;
  private loaded: readonly ModelClass[] = [];
  private readonly entries: readonly Registration[];
  private readonly contracts = new Map<Registration, ContractReport>();

  constructor({ requested, passedOver, upstream, overrides, platform, mode, classes }: ResolutionFacts) {
    this.architecture = upstream.architecture;
    this.capabilities = upstream.capabilities;
    this.platform = platform;
    this.mode = mode;
    this.requested = [...requested];
    this.passedOver = passedOver;
    this.classes = classes;
    this.upstream = upstream;
    this.links = chainOf(upstream, overrides, platform);
    this.entries = [upstream, ...overrides];
  }

  /** From the upstream class to the one that is built. `className` is null until `load` has run. */
  get chain(): readonly ChainRecord[] {
    return this.links.map((entry, index) => ({
      plugin: entry.owner.plugin,
      file: entry.owner.file,
      kind: entry.kind,
      priority: entry.kind === 'upstream' ? null : entry.priority,
      className: this.loaded[index]?.name ?? null,
    }));
  }

  /** Every candidate with one reason, and the state of its drift contract. */
  get candidates(): readonly CandidateRecord[] {
    return this.entries.map((entry) => candidateRecord(entry, reasonFor(entry, this.links, this.platform), this.contracts.get(entry)));
  }

  /** Who brings the class that is built. */
  get owner(): Owner {
    return this.links.at(-1)!.owner;
  }

  /**
   * Imports the model code and gives the class. No failure is kept: a second call tries again.
   * The caller names the types: the registry knows neither contexts nor models.
   * @throws ModuleFailedError, NotAModelClassError, OverrideBaseError.
   */
  async load<Context = never, Model extends object = object>(): Promise<ModelClass<Context, Model>> {
    this.loaded = await this.classes.load(this.upstream, this.links);
    return this.loaded.at(-1)! as unknown as ModelClass<Context, Model>;
  }

  /**
   * Holds the drift contract (`reliesOn`) of each override in the chain against upstream, as far as that goes without a model. `candidates` says
   * what came of it. For `explain`; a model that is to be loaded is built by `buildUnderContract`.
   * @throws ManifestInvalidError and what `load` throws.
   */
  checkContracts(): Promise<readonly ContractReport[]> {
    return this.holdContracts(null);
  }

  /**
   * Builds a model and holds the drift contracts against it: before weights are read, and before a hook meets what is no longer there.
   * @throws ContractBrokenError that names every breach; where the constructor threw too, with that as its cause.
   */
  async buildUnderContract<Model extends object>(build: () => Model): Promise<Model> {
    const early = await this.checkContracts();
    let model: Model;
    try {
      model = build();
    } catch (cause) {
      // A constructor that fails on what upstream no longer has is explained by the contract.
      this.expectKept(early, cause);
      throw cause;
    }
    this.expectKept(await this.holdContracts(model));
    return model;
  }

  private async holdContracts(model: object | null): Promise<readonly ContractReport[]> {
    const subjects = this.links.flatMap((entry, index) => (entry.kind === 'upstream' || entry.reliesOn === null ? [] : [{ entry, index }]));
    if (subjects.length === 0) return [];
    if (this.loaded.length === 0) await this.load();
    for (const { entry, index } of subjects) {
      const classes = { upstreamClass: this.loaded[0]!, base: this.baseOf(entry, index) };
      const subject = { entry, upstream: this.upstream, ...classes } as ContractSubject;
      this.contracts.set(entry, await checkContract(subject, model));
    }
    return [...this.contracts.values()];
  }

  /** A plain subclass extends upstream, whatever stands below it. */
  private baseOf(entry: OverrideEntry, index: number): ModelClass {
    return entry.kind === 'subclass' ? this.loaded[0]! : this.loaded[index - 1]!;
  }

  private expectKept(reports: readonly ContractReport[], cause?: unknown): void {
    const broken = reports.filter(({ state }) => state === 'broken');
    if (broken.length > 0) throw new ContractBrokenError(this.architecture, this.loaded[0]!.name, broken, cause);
  }

  toJSON(): ResolutionRecord {
    return {
      requested: [...this.requested],
      architecture: this.architecture,
      platform: this.platform,
      mode: this.mode,
      passedOver: [...this.passedOver],
      chain: [...this.chain],
      candidates: [...this.candidates],
    };
  }
}

/** Upstream, then the platform's overrides from the lowest priority up. A plain subclass starts from upstream again, a factory stacks. */
function chainOf(upstream: UpstreamEntry, overrides: readonly OverrideEntry[], platform: string | null): Registration[] {
  const chain: Registration[] = [upstream];
  const applicable = overrides.filter((entry) => entry.platform === platform).sort((a, b) => a.priority - b.priority);
  for (const entry of applicable) {
    if (entry.kind === 'subclass') chain.splice(1);
    chain.push(entry);
  }
  return chain;
}

interface Reason {
  reason: CandidateReason;
  detail: string;
}

function reasonFor(entry: Registration, chain: readonly Registration[], platform: string | null): Reason {
  const at = chain.indexOf(entry);
  if (at === chain.length - 1) return { reason: 'selected', detail: selectedDetail(entry, platform) };
  if (at >= 0) return { reason: 'base', detail: `the class that ${nameOf(chain[at + 1]!)} builds on` };
  // Upstream is in every chain, so what is left is an override.
  const override = entry as OverrideEntry;
  if (override.platform !== platform)
    return { reason: 'other-platform', detail: `serves platform "${override.platform}", not "${platform}"` };
  const above = chain.find((other) => other.kind === 'subclass')!;
  return {
    reason: 'outranked',
    detail: `${nameOf(above)} has a higher priority and is a plain subclass, on which nothing below it stacks`,
  };
}

function selectedDetail(entry: Registration, platform: string | null): string {
  if (entry.kind !== 'upstream') return `the highest priority (${entry.priority}) on platform "${entry.platform}"`;
  return platform === null ? 'upstream was asked for' : `no override serves platform "${platform}"`;
}

function nameOf(entry: Registration): string {
  return entry.kind === 'upstream'
    ? `the upstream class of plugin "${entry.owner.plugin}"`
    : `the ${entry.kind} of plugin "${entry.owner.plugin}"`;
}

function candidateRecord(entry: Registration, { reason, detail }: Reason, contract: ContractReport | undefined): CandidateRecord {
  const { plugin, file } = entry.owner;
  const shared = { plugin, file, kind: entry.kind, reason, detail };
  if (entry.kind === 'upstream') return { ...shared, platform: null, priority: null, contract: 'none', contractNotes: [] };
  const state = entry.reliesOn === null ? 'none' : (contract?.state ?? 'not checked');
  const notes = contract === undefined ? [] : [...contract.breaches.map(({ text }) => text), ...contract.notChecked];
  return { ...shared, platform: entry.platform, priority: entry.priority, contract: state, contractNotes: notes };
}

/** The registry's state, as far as resolving reads it. */
export interface ResolutionSources {
  upstream: ReadonlyMap<string, UpstreamEntry>;
  retired: ReadonlyMap<string, RetiredArchitecture>;
  overridesOf(architecture: string): readonly OverrideEntry[];
  unknown(architectures: readonly string[]): Error;
  classes: ClassLoader;
}

/** Walks `architectures` in order and resolves the first that is registered. */
export function resolveArchitectures(
  architectures: readonly string[],
  { platform, mode }: ResolveContext,
  sources: ResolutionSources,
): Resolution {
  const passedOver: PassedOverRecord[] = [];
  for (const architecture of architectures) {
    const upstream = sources.upstream.get(architecture);
    if (upstream !== undefined) {
      const overrides = sources.overridesOf(architecture);
      return new Resolution({
        requested: architectures,
        passedOver,
        upstream,
        overrides,
        platform,
        mode: mode ?? null,
        classes: sources.classes,
      });
    }
    const retired = sources.retired.get(architecture);
    passedOver.push({
      architecture,
      reason: retired === undefined ? 'unknown' : 'retired',
      detail: retired?.note ?? 'no loaded plugin registers it',
      nearest: nearestNames(architecture, sources.upstream.keys()),
    });
  }
  throw sources.unknown(architectures);
}
