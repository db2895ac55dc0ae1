import { EventBus, meantNames, messageOf, nearestNames, quotedList } from '@graft/common';
import type { Owner } from '@graft/services';
import { TargetModeError, WithoutUnknownError } from './errors.ts';
import { type HookDeclaration, type HookMethod, hooksOf, type Phase, type PostLoadReload } from './hooks.ts';
import { Lifecycle } from './lifecycle.ts';
import type { InspectableModel, LazyClass, ParameterFacts } from './model.ts';
import { HookChangedParametersError, HookFailedError, LifecycleError, ReloadChangedModelError } from './model-errors.ts';
import { changeText, type NamedParameters, namedParameters, parameterChanges } from './parameters.ts';
import { type Patches, PatchLedger, type PatchRecord } from './patch-ledger.ts';
import type { PluginHook } from './plugin.ts';
import type { Candidate, Resolution } from './resolution.ts';
import { modulesOf, Snapshot } from './snapshot.ts';

/** A plugin's hook: its plugin, its name (`plugin: name`), and the declared class that `of` names. */
export type LoadedHook = PluginHook & { readonly owner: Owner; readonly name: string; readonly upstream?: LazyClass | null };

export interface HookRecord {
  readonly phase: Phase;
  /** `FastModel.unifyAttention`, or `plugin: name` for a plugin's hook. */
  readonly hook: string;
  readonly plugin: string;
  readonly modes: readonly string[] | null;
  readonly reason: string | null;
  readonly reload: PostLoadReload | null;
  /** The modules that it runs for, in the order of the tree; the model itself is ''. */
  readonly paths: readonly string[];
  /** `planned`: it runs once the weights are loaded. The last three are outcomes of a reload of the weights. */
  readonly outcome: 'ran' | `skipped: ${string}` | 'planned' | 'kept' | 'ran again' | 'undone and ran again';
  readonly durationMs: number;
  readonly warnings: readonly string[];
  /** Changes of the model or of its classes by a hook that patched and renamed nothing: one sentence for each. */
  readonly unrecorded: readonly string[];
}

export interface RenameRecord {
  readonly hook: string;
  readonly from: string;
  readonly to: string;
}

export interface HookRunnerRecord {
  readonly hooks: readonly HookRecord[];
  readonly renames: readonly RenameRecord[];
  readonly patches: readonly PatchRecord[];
}

export interface HookEvents {
  /** A hook of a phase that succeeded left something as it is, or covered a patch of another plugin. */
  'hook:warning': { hook: string; plugin: string; message: string };
}

type Link = Pick<Candidate, 'plugin' | 'className'>;

export interface HookTarget extends Pick<Resolution, 'architecture' | 'platform' | 'mode'> {
  readonly chain: readonly Link[];
  readonly layers?: readonly { readonly candidates: readonly Link[] }[];
  /** The version of the plugin that brings the upstream class, for `removeWhen` of patches. */
  readonly upstreamVersion?: string | null;
  readonly graftVersion?: string;
  /** The modes of the platform; a hook for none of them gets a warning. */
  readonly modes?: readonly string[];
  /** Hooks that are switched off: `plugin: name`, as in records, or `plugin: Class.method`. */
  readonly without?: readonly string[];
}

type Place = readonly [path: string, instance: object];

/** A hook before it runs: the constant part of its record, and its instances. */
interface Hook extends Omit<HookRecord, 'outcome' | 'durationMs' | 'warnings' | 'unrecorded'> {
  readonly instances: readonly object[];
  run(instance: object, context: unknown, patches: Patches): void | Promise<void>;
}

/** A phase under way. `undo` takes the model and the ledger back to its start; false: it could not, and the model is `failed`. */
interface Transaction {
  readonly model: InspectableModel;
  readonly context: unknown;
  readonly before: Snapshot;
  undo(cause: string): boolean;
}

/** A model with new weights, after its hooks ran again. Nothing is final before `keep`: disposed without it, the model is as it was. */
export interface HookReload extends Disposable {
  readonly hooks: readonly HookRecord[];
  keep(): void;
}

const reloadOutcomes = { keep: 'kept', rerun: 'ran again', 'undo-redo': 'undone and ran again' } as const;

/**
 * Runs the hooks of one model. Each phase is a transaction: either every hook ran and kept the phase's promise, or the model is as it was before
 * the phase, or it is marked `failed` and cannot be used.
 */
export class HookRunner {
  readonly lifecycle = new Lifecycle();
  readonly ledger = new PatchLedger(this.lifecycle);
  readonly events = new EventBus<HookEvents>();
  private readonly target: HookTarget;
  private readonly hooks: readonly LoadedHook[];
  private readonly hookRecords: HookRecord[] = [];
  private readonly renameRecords: RenameRecord[] = [];
  /** The names under which the weights were loaded, before any post-load hook renamed one; null before the postLoad hooks ran. */
  private loadNames: readonly (readonly [string, ParameterFacts])[] | null = null;
  private undoable: ReadonlySet<number> = new Set();

  /** @param hooks `LoadedPlugins.hooks`; those for another platform are left out. */
  constructor(target: HookTarget, hooks: readonly LoadedHook[] = []) {
    this.target = target;
    this.hooks = hooks.filter(({ platform }) => platform === target.platform);
  }

  /**
   * Runs one phase. First the hook methods of each class in the tree, base before subclass, then plugin hooks in plugin order; each for all of its
   * instances, in the order of the tree at the start of the phase.
   * `init` takes the model from `constructed` to `initialized`; `postLoad` needs `loaded`, and runs once.
   * @throws HookChangedParametersError, HookFailedError, LifecycleError.
   */
  async run<Context>(phase: Phase, model: InspectableModel, context: Context): Promise<void> {
    const call = `run('${phase}')`;
    this.lifecycle.require(call, phase === 'init' ? 'constructed' : 'loaded');
    if (this.loadNames !== null) throw new LifecycleError('loaded, with its postLoad hooks run', call, ['loaded']);
    const loadNames = [...model.namedParameters()];
    const hooks = await this.hooksFor(phase, model);
    const { records, renames, undoable } = await this.runAll(hooks, this.begin(model, context), (hook) => this.skipped(hook) ?? 'ran');
    this.hookRecords.push(...records);
    this.renameRecords.push(...renames);
    this.undoable = undoable;
    if (phase === 'postLoad') this.expectKnown(); // only now is every class known whose hooks ran
    if (phase === 'init') this.lifecycle.advance('initialized', call);
    else this.loadNames = loadNames;
  }

  /**
   * The parameters under their names in a checkpoint: as before post-load hooks renamed them, in the same order.
   * @throws LifecycleError before the postLoad hooks have run.
   */
  parametersAtLoad<P extends ParameterFacts>(model: { namedParameters(): Iterable<[string, P]> }): Map<string, P> {
    if (this.loadNames === null) this.lifecycle.require('parametersAtLoad', 'ready');
    const present = new Map<ParameterFacts, P>([...model.namedParameters()].map(([, parameter]) => [parameter, parameter]));
    return new Map(this.loadNames?.map(([name, facts]) => [name, present.get(facts)!]));
  }

  /**
   * Puts other weights into a model that is `ready`. The patches of `undo-redo` hooks are undone, `apply` fills the parameters, then `undo-redo` and
   * `rerun` hooks run again in their order; the effects of `keep` hooks stay. Parameters keep their names. All or nothing: an error
   * leaves the model as it was, and so does disposing the result without `keep`.
   * @throws PatchOrderError when a later hook that is not `undo-redo` patched on top of one that is; PatchOverwrittenError; HookFailedError;
   * HookChangedParametersError; ReloadChangedModelError for a `rerun` hook that patches or renames, or for changed names; LifecycleError.
   */
  async reload<Context>(model: InspectableModel, context: Context, apply: () => void): Promise<HookReload> {
    this.lifecycle.advance('reloading', 'reload');
    const before = namedParameters(model.namedParameters());
    const transaction = this.begin(model, context);
    let isOpen = true;
    const end = (cause: string): void => {
      if (isOpen && transaction.undo(cause)) this.lifecycle.advance('ready', 'reload');
      isOpen = false;
    };
    try {
      this.ledger.undo(this.undoable);
      apply();
      const hooks = await this.hooksFor('postLoad', model);
      const ran = await this.runAll(hooks, transaction, (hook) => this.skipped(hook) ?? reloadOutcomes[hook.reload!]);
      // The storage format may differ with the weights. Names and shapes may not.
      const changes = parameterChanges(before, ran.parameters).filter(({ kind }) => kind !== 'retyped');
      if (changes.length > 0) throw new ReloadChangedModelError(`parameters changed: ${changes.map(changeText).join('; ')}`);
      const keep = (): void => {
        isOpen = false;
        this.undoable = ran.undoable;
        this.lifecycle.advance('ready', 'reload');
      };
      return { hooks: ran.records, keep, [Symbol.dispose]: () => end('what followed the hooks of a reload') };
    } catch (error) {
      end('a reload');
      throw error;
    }
  }

  /** The records of a phase before it runs: `planned`, or skipped with the reason. Runs nothing. */
  async plan(phase: Phase, model: InspectableModel): Promise<HookRecord[]> {
    return (await this.hooksFor(phase, model)).map((hook) => recordOf(hook, this.skipped(hook) ?? 'planned'));
  }

  toJSON(): HookRunnerRecord {
    return { hooks: [...this.hookRecords], renames: [...this.renameRecords], patches: this.ledger.toJSON() };
  }

  /** @throws WithoutUnknownError for a switched-off hook method that no class of the model has. */
  private expectKnown(): void {
    const known = this.hookRecords.map(({ plugin, hook }) => (hook.startsWith(`${plugin}: `) ? hook : `${plugin}: ${hook}`));
    const unknown = this.target.without?.find((name) => /: [^.]+\.[^.]+$/.test(name) && !known.includes(name));
    if (unknown !== undefined) throw new WithoutUnknownError(unknown, nearestNames(unknown, known));
  }

  private async hooksFor(phase: Phase, model: InspectableModel): Promise<Hook[]> {
    const modules = [...modulesOf(model)];
    const ofPlugins = this.hooks.filter((hook) => hook.phase === phase).map((hook) => this.pluginHook(hook, modules));
    const hooks = [...this.classHooks(phase, modules), ...(await Promise.all(ofPlugins))];
    for (const hook of hooks) this.checkModes(hook);
    return hooks;
  }

  /** @throws TargetModeError for a mode that is misspelt. */
  private checkModes({ hook, plugin, modes }: Hook): void {
    const { modes: known = [], platform: name } = this.target;
    const wrong = modes?.find((mode) => !known.includes(mode) && meantNames(mode, known).length > 0);
    if (wrong !== undefined)
      throw new TargetModeError(`The hook ${hook}`, { plugin, file: null }, wrong, { name: name!, modes: known }).at(
        `${hook} of plugin "${plugin}"`,
      );
  }

  /** One hook for each declaration, whichever classes inherit it. */
  private classHooks(phase: Phase, modules: readonly Place[]): Hook[] {
    const found: { declaration: HookDeclaration; places: Place[] }[] = [];
    for (const place of modules) {
      for (const declaration of hooksOf(place[1].constructor, phase)) {
        const { prototype, method } = declaration;
        const known = found.find((each) => each.declaration.prototype === prototype && each.declaration.method === method);
        if (known === undefined) found.push({ declaration, places: [place] });
        else known.places.push(place);
      }
    }
    const { chain, layers = [] } = this.target;
    const links = [...chain, ...layers.flatMap(({ candidates }) => candidates)];
    return found.map(({ declaration: { method, prototype, ...facts }, places }) => {
      const className = prototype.constructor.name;
      const plugin = (links.find((link) => link.className === className) ?? chain.at(-1))?.plugin ?? 'application';
      const run: Hook['run'] = (instance, _, patches) => (instance as Record<string, HookMethod>)[method]!(patches);
      return { ...facts, hook: `${className}.${method}`, plugin, ...split(places), run };
    });
  }

  private async pluginHook(hook: LoadedHook, modules: readonly Place[]): Promise<Hook> {
    const { owner, name, of, phase, modes = null, reason = null, reload = null, upstream = null } = hook;
    // The model goes by its architecture, whatever its class is called; a part goes by its class.
    const isModel = of === '*' || of.slice(of.lastIndexOf('/') + 1) === this.target.architecture;
    const Class = of === '*' ? null : ((await upstream?.()) ?? null);
    const places = modules.filter(([, instance], at) => (at === 0 ? isModel : Class !== null && instance instanceof Class));
    return { phase, hook: name, plugin: owner.plugin, modes, reason, reload, ...split(places), run: hook.run.bind(hook) as Hook['run'] };
  }

  private skipped({ hook, plugin, modes, paths }: Hook): `skipped: ${string}` | null {
    const { mode, without = [] } = this.target;
    if (modes !== null && (mode === null || !modes.includes(mode))) return 'skipped: other mode';
    if (paths.length === 0) return 'skipped: not in this model';
    return without.some((name) => name === hook || name === `${plugin}: ${hook}`) ? 'skipped: switched off' : null;
  }

  /** A warning and not an error: a class may serve on several platforms, and name a mode of another one. */
  private modeWarnings({ modes }: Hook): string[] {
    const { modes: known, platform } = this.target;
    if (known === undefined || modes === null || modes.some((mode) => known.includes(mode))) return [];
    const nearest = quotedList(nearestNames(modes[0] ?? '', known));
    return [`It only runs in ${quotedList(modes)}, and platform "${platform}" has no such mode (nearest: ${nearest}).`];
  }

  private begin(model: InspectableModel, context: unknown): Transaction {
    const before = Snapshot.ofModel(model);
    const restoreEntries = this.ledger.save();
    let isRestored: boolean | null = null;
    const undo = (cause: string): boolean => {
      if (isRestored !== null) return isRestored;
      before.restore();
      restoreEntries();
      try {
        isRestored = before.differences(Snapshot.ofModel(model)).length === 0;
      } catch {
        isRestored = false; // it cannot even be read
      }
      if (!isRestored) this.lifecycle.fail(`${cause} changed what is out of the registry's reach`);
      return isRestored;
    };
    return { model, context, before, undo };
  }

  private async runAll(hooks: readonly Hook[], transaction: Transaction, outcomeOf: (hook: Hook) => HookRecord['outcome']) {
    const records: HookRecord[] = [];
    const renames: RenameRecord[] = [];
    const undoable = new Set<number>();
    let parameters = namedParameters(transaction.model.namedParameters());
    let seen = transaction.before;
    let classes = seen.ofClasses();
    for (const hook of hooks) {
      const outcome = outcomeOf(hook);
      if (outcome === 'kept' || outcome.startsWith('skipped')) {
        records.push(recordOf(hook, outcome, 0, this.modeWarnings(hook)));
        continue;
      }
      const ran = await this.runHook(hook, transaction, parameters);
      if (hook.reload === 'undo-redo') for (const id of ran.patches) undoable.add(id);
      if (outcome === 'ran again' && ran.patches.length + ran.renames.length > 0) {
        const [first] = ran.renames;
        const renamed = first === undefined ? '' : `, and ${ran.renames.length} renames ("${first.from}" to "${first.to}")`;
        throw new ReloadChangedModelError(`a hook with reload: 'rerun' made ${ran.patches.length} patches${renamed}`, hook.hook);
      }
      const [now, nowClasses] = [Snapshot.ofModel(transaction.model), classes.again()];
      const isIdle = ran.patches.length + ran.renames.length === 0;
      const unrecorded = isIdle ? [...seen.differences(now), ...classes.differences(nowClasses)] : [];
      [seen, classes] = [now, nowClasses];
      records.push(recordOf(hook, outcome, ran.durationMs, ran.warnings, unrecorded));
      renames.push(...ran.renames);
      parameters = ran.parameters;
    }
    for (const { hook, plugin, warnings } of records)
      for (const message of warnings) this.events.emit('hook:warning', { hook, plugin, message });
    return { records, renames, undoable, parameters };
  }

  private async runHook(of: Hook, { model, context, undo }: Transaction, before: NamedParameters) {
    const { hook, plugin, phase, reason, paths, instances, run } = of;
    const patched = { pathOf: pathsIn(model), upstreamVersion: this.target.upstreamVersion, graftVersion: this.target.graftVersion };
    const { patches, warnings, made, close } = this.ledger.open({ hook, plugin, phase }, patched, reason);
    const started = performance.now();
    let where = hook;
    let parameters: NamedParameters;
    try {
      for (const [index, instance] of instances.entries()) {
        where = paths[index] === '' ? hook : `${hook} at ${paths[index]}`;
        await run(instance, context, patches);
      }
      parameters = namedParameters(model.namedParameters());
    } catch (cause) {
      throw new HookFailedError({ phase, hook: where, message: messageOf(cause), restored: undo(hook), cause });
    } finally {
      close();
    }
    const durationMs = performance.now() - started;
    const changes = parameterChanges(before, parameters);
    const allowed = phase === 'init' ? 'replaced' : 'renamed'; // before the weights are loaded, another Parameter of the same kind is as good
    const refused = changes.filter(({ kind }) => kind !== allowed).map(changeText);
    if (refused.length > 0) throw new HookChangedParametersError({ phase, hook, changes: refused, restored: undo(hook) });
    const renames = changes.flatMap(({ kind, before: from, after: to }) => (kind === 'renamed' ? [{ hook, from, to }] : []));
    return { parameters, patches: made, renames, durationMs, warnings };
  }
}

function recordOf(
  hook: Hook,
  outcome: HookRecord['outcome'],
  durationMs = 0,
  warnings: string[] = [],
  unrecorded: string[] = [],
): HookRecord {
  const { instances: _, run: __, ...facts } = hook;
  return { ...facts, outcome, durationMs, warnings: [...warnings], unrecorded };
}

const split = (places: readonly Place[]) => ({ paths: places.map(([path]) => path), instances: places.map(([, instance]) => instance) });

/** The path of a module, or of an object lent to one; null for any other object. An unknown object is looked up again: it may be new in the tree. */
function pathsIn(model: InspectableModel): (instance: object) => string | null {
  let paths = new Map<object, string>();
  return (instance) => {
    if (!paths.has(instance)) {
      const modules = modulesOf(model);
      paths = new Map([...modules].map(([path, module]) => [module, path]));
      for (const [path, module] of modules)
        for (const [name, { value, enumerable }] of Object.entries(Object.getOwnPropertyDescriptors(module)))
          if (!enumerable && typeof value === 'object' && value !== null && !paths.has(value))
            paths.set(value, path === '' ? name : `${path}.${name}`); // a lent object: its property does not enumerate
    }
    return paths.get(instance) ?? null;
  };
}
