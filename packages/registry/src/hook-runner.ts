import { EventBus, messageOf } from '@graft/common';
import { type HookDeclaration, hooksOf, type Phase, type PostLoadReload } from './hooks.ts';
import { Lifecycle } from './lifecycle.ts';
import type { InspectableModel, LazyClass, ParameterFacts } from './model.ts';
import { HookChangedParametersError, HookFailedError, LifecycleError, ReloadChangedModelError } from './model-errors.ts';
import { nearestNames, quotedList } from './names.ts';
import { changeText, type NamedParameters, namedParameters, parameterChanges } from './parameters.ts';
import { type PatchedModel, type Patches, PatchLedger, type PatchRecord } from './patch-ledger.ts';
import type { PluginHook } from './plugin.ts';
import type { Owner } from './registration.ts';
import type { Candidate, Resolution } from './resolution.ts';
import { modulesOf, Snapshot } from './snapshot.ts';

/** A plugin's hook, with the plugin and the declared class that `of` names. */
export type LoadedHook = PluginHook & { readonly owner: Owner; readonly name?: string; readonly upstream?: LazyClass | null };

/** A hook of one model and what became of it, as data. */
export interface HookRecord {
  readonly phase: Phase;
  /** `HpuLlama4ForCausalLM.unifyAttention`, or `plugin: name` for a plugin's hook. */
  readonly hook: string;
  readonly plugin: string;
  readonly modes: readonly string[] | null;
  readonly reason: string | null;
  readonly reload: PostLoadReload | null;
  /** The modules for which it runs, in the order of the tree; the model itself is ''. */
  readonly paths: readonly string[];
  /** `planned`: it runs once the weights are there. The last three are those of a reload of the weights. */
  readonly outcome: 'ran' | `skipped: ${string}` | 'planned' | 'kept' | 'ran again' | 'undone and ran again';
  readonly durationMs: number;
  readonly warnings: readonly string[];
}

/** A parameter that a post-load hook renamed. */
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
  /** A hook of a phase that went through left something as it is, or patched what another plugin had patched. */
  'hook:warning': { hook: string; plugin: string; message: string };
}

type Link = Pick<Candidate, 'plugin' | 'className'>;

/** The part of a resolution that a runner reads. */
export interface HookTarget extends Pick<Resolution, 'architecture' | 'platform' | 'mode'> {
  readonly chain: readonly Link[];
  readonly layers?: readonly { readonly candidates: readonly Link[] }[];
  /** The version of the plugin that brings the upstream class, for `removeWhen` of patches. */
  readonly upstreamVersion?: string | null;
  /** The modes that the platform has; a hook for none of them is told to the user. */
  readonly modes?: readonly string[];
  /** Hooks that are switched off: `plugin: name`, as records have them, or `plugin: Class.method`. */
  readonly without?: readonly string[];
}

interface Hook extends Omit<HookRecord, 'paths' | 'outcome' | 'durationMs' | 'warnings'> {
  readonly instances: readonly (readonly [path: string, instance: object])[];
  run(instance: object, context: unknown, patches: Patches): void | Promise<void>;
}

/** A model with other weights, its hooks run again. Nothing is final before `keep`: disposed without it, the model is as it was. */
export interface HookReload extends Disposable {
  readonly hooks: readonly HookRecord[];
  /** The model is `ready` again, with the new weights. */
  keep(): void;
}

const ranAgain = { keep: 'kept', rerun: 'ran again', 'undo-redo': 'undone and ran again' } as const;

/**
 * Runs the hooks of one model. Each phase is a transaction: either every hook of it ran and kept the phase's promise, or the model is as it was
 * before the phase, or it is marked `failed` and nothing more can be done with it.
 */
export class HookRunner {
  readonly lifecycle = new Lifecycle();
  readonly ledger = new PatchLedger(this.lifecycle);
  readonly events = new EventBus<HookEvents>();
  private readonly target: HookTarget;
  private readonly hooks: readonly LoadedHook[];
  private readonly hookRecords: HookRecord[] = [];
  private readonly renameRecords: RenameRecord[] = [];
  private postLoadRan = false;
  /** The names under which the weights were loaded, before any post-load hook renamed one. */
  private loadNames: readonly (readonly [string, ParameterFacts])[] = [];
  /** Patches that a reload undoes: those of `undo-redo` hooks. */
  private undoable: ReadonlySet<number> = new Set();

  /** @param hooks `LoadedPlugins.hooks`; those for another model or platform are left out. */
  constructor(target: HookTarget, hooks: readonly LoadedHook[] = []) {
    this.target = target;
    this.hooks = hooks.filter(({ platform }) => platform === target.platform);
  }

  /**
   * Runs one phase. First the hook methods of each class in the tree, base before subclass, then plugin hooks in plugin order; each for all of its
   * instances, in the order of the tree as the phase finds it.
   * `init` takes the model from `constructed` to `initialized`; `postLoad` needs `loaded`, and runs once.
   * @throws HookChangedParametersError, HookFailedError, LifecycleError.
   */
  async run<Context>(phase: Phase, model: InspectableModel, context: Context): Promise<void> {
    const call = `run('${phase}')`;
    this.lifecycle.require(call, phase === 'init' ? 'constructed' : 'loaded');
    if (phase === 'postLoad' && this.postLoadRan)
      throw new LifecycleError({ state: 'loaded, with its postLoad hooks run', call, allowed: ['loaded'] });
    if (phase === 'postLoad') this.loadNames = [...model.namedParameters()];
    const hooks = await this.hooksFor(phase, model);
    const { records, renames, undoable } = await this.runAll(hooks, model, context, this.transaction(model));
    this.hookRecords.push(...records);
    this.renameRecords.push(...renames);
    if (phase === 'init') this.lifecycle.advance('initialized', call);
    else {
      this.postLoadRan = true;
      this.undoable = undoable;
    }
  }

  /**
   * The parameters under the names by which a checkpoint fills them: as they were before post-load hooks renamed them, in the same order.
   * @throws LifecycleError before the postLoad hooks have run.
   */
  parametersAtLoad<P extends ParameterFacts>(model: { namedParameters(): Iterable<[string, P]> }): Map<string, P> {
    if (!this.postLoadRan) this.lifecycle.require('parametersAtLoad', 'ready');
    const present = new Map<ParameterFacts, P>([...model.namedParameters()].map(([, parameter]) => [parameter, parameter]));
    return new Map(this.loadNames.map(([name, facts]) => [name, present.get(facts)!]));
  }

  /**
   * Puts other weights into a model that is `ready`. The patches of `undo-redo` hooks are undone, `apply` fills the parameters, then `undo-redo` and
   * `rerun` hooks run again in their order; what `keep` hooks did stays. Parameters come out under the names that they had. All or nothing: an error
   * leaves the model as it was, and so does disposing the result without `keep`.
   * @throws PatchOrderError when a later hook that is not `undo-redo` patched on top of one that is; PatchOverwrittenError; HookFailedError;
   * HookChangedParametersError; ReloadChangedModelError for a `rerun` hook that patches or renames, or names that came out otherwise; LifecycleError.
   */
  async reload<Context>(model: InspectableModel, context: Context, apply: () => void): Promise<HookReload> {
    this.lifecycle.advance('reloading', 'reload');
    const before = namedParameters(model.namedParameters());
    const takeBack = this.transaction(model);
    let isOpen = true;
    const end = (hook: string): void => {
      if (isOpen && takeBack(hook)) this.lifecycle.advance('ready', 'reload');
      isOpen = false;
    };
    try {
      this.ledger.undo(this.undoable);
      apply();
      const { records, undoable, parameters } = await this.runAll(
        await this.hooksFor('postLoad', model),
        model,
        context,
        takeBack,
        ranAgain,
      );
      // Other weights may have another storage format, but every parameter stands where it stood.
      const changes = parameterChanges(before, parameters).filter(({ kind }) => kind !== 'retyped');
      if (changes.length > 0)
        throw new ReloadChangedModelError(`parameters do not stand where they stood: ${changes.map(changeText).join('; ')}`);
      const keep = (): void => {
        isOpen = false;
        this.undoable = undoable;
        this.lifecycle.advance('ready', 'reload');
      };
      return { hooks: records, keep, [Symbol.dispose]: () => end('what followed the hooks of a reload') };
    } catch (error) {
      end('a reload');
      throw error;
    }
  }

  /** The records of a phase before it runs: `planned`, or skipped with the reason. Runs nothing. */
  async plan(phase: Phase, model: InspectableModel): Promise<HookRecord[]> {
    return (await this.hooksFor(phase, model)).map((hook) => recordOf(hook, this.skipped(hook) ?? 'planned'));
  }

  /** The hooks so far, the renamed parameters and the patches in effect. */
  toJSON(): HookRunnerRecord {
    return { hooks: [...this.hookRecords], renames: [...this.renameRecords], patches: this.ledger.toJSON() };
  }

  private async hooksFor(phase: Phase, model: InspectableModel): Promise<Hook[]> {
    const modules = [...modulesOf(model)];
    const ofPlugins = await Promise.all(this.hooks.map((hook, index) => this.pluginHook(hook, index, modules)));
    return [...this.classHooks(phase, modules), ...ofPlugins.filter((hook) => hook.phase === phase)];
  }

  /** One a declaration, whichever classes inherit it. */
  private classHooks(phase: Phase, modules: readonly (readonly [string, object])[]): Hook[] {
    const found = new Map<HookDeclaration, (readonly [string, object])[]>();
    for (const [path, instance] of modules) {
      for (const declaration of hooksOf(instance.constructor, phase)) {
        const key = [...found.keys()].find(({ prototype, method }) => prototype === declaration.prototype && method === declaration.method);
        if (key === undefined) found.set(declaration, [[path, instance]]);
        else found.get(key)!.push([path, instance]);
      }
    }
    const { chain, layers = [] } = this.target;
    const links = [...chain, ...layers.flatMap(({ candidates }) => candidates)];
    return [...found].map(([{ method, prototype, ...facts }, instances]) => {
      const className = prototype.constructor.name;
      const plugin = (links.find((link) => link.className === className) ?? chain.at(-1))?.plugin ?? 'application';
      const run: Hook['run'] = (instance, _, patches) =>
        (instance as Record<string, (patches: Patches) => void | Promise<void>>)[method]!(patches);
      return { ...facts, hook: `${className}.${method}`, plugin, instances, run };
    });
  }

  private async pluginHook(hook: LoadedHook, index: number, modules: readonly (readonly [string, object])[]): Promise<Hook> {
    const { owner, of, phase, modes = null, reason = null, reload = null, upstream = null, run } = hook;
    const name = hook.name ?? `${owner.plugin}: ${run.name === '' || run.name === 'run' ? `hook ${index + 1}` : run.name}`;
    // The model has the name under which it was resolved, whatever other names its class has; a part has its class.
    const Class = of === '*' ? null : ((await upstream?.()) ?? null);
    const isModel = of === '*' || of.slice(of.lastIndexOf('/') + 1) === this.target.architecture;
    const instances = modules.filter(([, instance], at) => (at === 0 ? isModel : Class !== null && instance instanceof Class));
    return {
      phase,
      hook: name,
      plugin: owner.plugin,
      modes,
      reason,
      reload,
      instances,
      run: run.bind(hook) as Hook['run'],
    };
  }

  private skipped({ hook, plugin, modes, instances }: Hook): `skipped: ${string}` | null {
    const { mode, without = [] } = this.target;
    if (modes !== null && (mode === null || !modes.includes(mode))) return 'skipped: other mode';
    if (instances.length === 0) return 'skipped: not in this model';
    return without.some((name) => name === hook || name === `${plugin}: ${hook}`) ? 'skipped: switched off' : null;
  }

  /** A class may serve on several platforms, so that a mode of another one is no error. */
  private modeWarnings({ modes }: Hook): string[] {
    const known = this.target.modes;
    if (known === undefined || modes === null || modes.some((mode) => known.includes(mode))) return [];
    const nearest = quotedList(nearestNames(modes[0] ?? '', known));
    return [`It runs in ${quotedList(modes)} alone, and platform "${this.target.platform}" has no such mode (nearest: ${nearest}).`];
  }

  /** The result takes the model and the ledger back to this moment, once. It returns false where it cannot; the model is then `failed`. */
  private transaction(model: InspectableModel): (hook: string) => boolean {
    const before = Snapshot.ofModel(model);
    const restoreEntries = this.ledger.save();
    let isRestored: boolean | null = null;
    return (hook) => {
      if (isRestored !== null) return isRestored;
      before.restore();
      restoreEntries();
      isRestored = isSame(before, model);
      if (!isRestored) this.lifecycle.fail(`${hook} changed what is out of the registry's reach`);
      return isRestored;
    };
  }

  /** @param undo takes the whole phase back. */
  private async runAll(
    hooks: readonly Hook[],
    model: InspectableModel,
    context: unknown,
    undo: (hook: string) => boolean,
    outcomes?: typeof ranAgain,
  ) {
    const records: HookRecord[] = [];
    const renames: RenameRecord[] = [];
    const undoable = new Set<number>();
    let parameters = namedParameters(model.namedParameters());
    for (const hook of hooks) {
      const outcome = this.skipped(hook) ?? (outcomes === undefined ? 'ran' : outcomes[hook.reload!]);
      if (outcome === 'kept' || outcome.startsWith('skipped')) {
        records.push(recordOf(hook, outcome, { warnings: this.modeWarnings(hook) }));
        continue;
      }
      const ran = await this.runHook(hook, model, context, parameters, undo);
      if (hook.reload === 'undo-redo') for (const id of ran.patches) undoable.add(id);
      if (outcome === 'ran again' && ran.patches.length + ran.renames.length > 0) {
        const [first] = ran.renames;
        const renamed = first === undefined ? '' : `, and ${ran.renames.length} renames ("${first.from}" to "${first.to}")`;
        throw new ReloadChangedModelError(`a hook with reload: 'rerun' made ${ran.patches.length} patches${renamed}`, hook.hook);
      }
      records.push(recordOf(hook, outcome, ran));
      renames.push(...ran.renames);
      parameters = ran.parameters;
    }
    for (const { hook, plugin, warnings } of records)
      for (const message of warnings) this.events.emit('hook:warning', { hook, plugin, message });
    return { records, renames, undoable, parameters };
  }

  /** Runs one hook for all its instances and holds it to its phase's promise. */
  private async runHook(
    { hook, plugin, phase, reason, instances, run }: Hook,
    model: InspectableModel,
    context: unknown,
    before: NamedParameters,
    undo: (hook: string) => boolean,
  ) {
    const { patches, warnings, made, close } = this.ledger.open({ hook, plugin, phase }, this.patched(model), reason);
    const started = performance.now();
    let where = hook;
    let parameters: NamedParameters;
    try {
      for (const [path, instance] of instances) {
        where = path === '' ? hook : `${hook} at ${path}`;
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
    const refused = phase === 'init' ? changes : changes.filter(({ kind }) => kind !== 'renamed');
    if (refused.length > 0) throw new HookChangedParametersError({ phase, hook, changes: refused.map(changeText), restored: undo(hook) });
    const renames = changes.map(({ before: from, after: to }) => ({ hook, from, to }));
    return { parameters, patches: made, renames, durationMs, warnings };
  }

  /** The parts of a model are its modules and what is lent to one; they are looked up again for an object that was not there before. */
  private patched(model: InspectableModel): PatchedModel {
    let paths: ReadonlyMap<object, string> = new Map();
    const pathOf = (instance: object): string | null => {
      if (!paths.has(instance)) paths = pathsOf(model);
      return paths.get(instance) ?? null;
    };
    return { pathOf, upstreamVersion: this.target.upstreamVersion };
  }
}

function recordOf(
  { instances, run: _, ...facts }: Hook,
  outcome: HookRecord['outcome'],
  { durationMs = 0, warnings = [] }: Partial<Pick<HookRecord, 'durationMs' | 'warnings'>> = {},
): HookRecord {
  return { ...facts, paths: instances.map(([path]) => path), outcome, durationMs, warnings: [...warnings] };
}

function isSame(before: Snapshot, model: InspectableModel): boolean {
  try {
    return before.differences(Snapshot.ofModel(model)).length === 0;
  } catch {
    return false; // it cannot even be read
  }
}

/** By object. A lent module is a property that does not enumerate. */
function pathsOf(model: InspectableModel): ReadonlyMap<object, string> {
  const paths = new Map([...modulesOf(model)].map(([path, module]) => [module, path]));
  for (const [path, module] of modulesOf(model)) {
    for (const [name, { value, enumerable }] of Object.entries(Object.getOwnPropertyDescriptors(module))) {
      const isLent = !enumerable && typeof value === 'object' && value !== null && !paths.has(value);
      if (isLent) paths.set(value as object, path === '' ? name : `${path}.${name}`);
    }
  }
  return paths;
}
