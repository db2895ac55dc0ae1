import { EventBus, messageOf } from '@graft/common';
import { type HookDeclaration, hooksOf, type Phase, type PostLoadReload } from './hooks.ts';
import { Lifecycle } from './lifecycle.ts';
import type { InspectableModel, ParameterFacts } from './model.ts';
import { HookChangedParametersError, HookFailedError, LifecycleError, ReloadChangedModelError } from './model-errors.ts';
import { changeText, ParameterSnapshot } from './parameters.ts';
import { type Patches, PatchLedger, type PatchRecord } from './patch-ledger.ts';
import type { PluginHook } from './plugin.ts';
import type { Owner } from './registration.ts';
import type { Resolution } from './resolve.ts';
import { TreeSnapshot } from './tree-snapshot.ts';

/** A plugin's hook, with the plugin. */
export type LoadedHook = PluginHook & { readonly owner: Owner };

/** What became of one hook, as data. */
export interface HookRecord {
  readonly phase: Phase;
  /** `HpuLlama4ForCausalLM.unifyAttention`, or the name of a plugin's hook. */
  readonly hook: string;
  readonly plugin: string;
  readonly modes: readonly string[] | null;
  readonly reason: string | null;
  readonly reload: PostLoadReload | null;
  /** `planned`: it runs once the weights are there. */
  readonly outcome: 'ran' | 'skipped: other mode' | 'planned';
  readonly durationMs: number;
  /** What the hook says of something that it left as it is. */
  readonly warnings?: readonly string[];
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
  /** A hook of a phase that went through left something as it is. */
  'hook:warning': { hook: string; plugin: string; message: string };
}

/** What a runner reads on a resolution. */
export type HookTarget = Pick<Resolution, 'architecture' | 'platform' | 'mode' | 'chain' | 'owner'>;

interface RunnableHook extends Omit<HookRecord, 'outcome' | 'durationMs' | 'warnings'> {
  run(patches: Patches): void | Promise<void>;
}

/** What a reload did with a post-load hook. */
export interface ReloadedHook extends Pick<HookRecord, 'hook' | 'plugin' | 'reload' | 'durationMs'> {
  readonly outcome: 'kept' | 'ran again' | 'undone and ran again' | 'skipped: other mode';
}

/** A model with other weights, its hooks run again. Nothing is final before `keep`: disposed without it, the model is as it was. */
export interface HookReload extends Disposable {
  readonly hooks: readonly ReloadedHook[];
  /** The model is `ready` again, with the new weights. */
  keep(): void;
}

/**
 * Runs the hooks of one model. Each phase is a transaction: either every hook of it ran and kept the phase's promise, or the model is as it was
 * before the phase, or it is marked `failed` and nothing more can be done with it.
 */
export class HookRunner {
  readonly lifecycle: Lifecycle;
  readonly ledger: PatchLedger;
  readonly events = new EventBus<HookEvents>();
  private readonly target: HookTarget;
  private readonly hooks: readonly LoadedHook[];
  private readonly hookRecords: HookRecord[] = [];
  private readonly renameRecords: RenameRecord[] = [];
  private postLoadRan = false;
  /** The names under which the weights were loaded, before any post-load hook renamed one. */
  private loadNames: readonly (readonly [string, ParameterFacts])[] = [];
  /** Patches that a reload undoes: those of `undo-redo` hooks. */
  private undoable = new Set<number>();

  /** @param hooks `LoadedPlugins.hooks`; those for another architecture or platform are left out. */
  constructor(target: HookTarget, hooks: readonly LoadedHook[] = [], lifecycle: Lifecycle = new Lifecycle()) {
    this.target = target;
    this.hooks = hooks;
    this.lifecycle = lifecycle;
    this.ledger = new PatchLedger(lifecycle);
  }

  /**
   * Runs one phase: hook methods of the class (base first, then subclass), then plugin hooks in plugin order.
   * `init` takes the model from `constructed` to `initialized`; `postLoad` needs `loaded`, and runs once.
   * @throws HookChangedParametersError, HookFailedError, LifecycleError.
   */
  async run<Context>(phase: Phase, model: InspectableModel, context: Context): Promise<void> {
    const call = `run('${phase}')`;
    this.lifecycle.require(call, phase === 'init' ? 'constructed' : 'loaded');
    if (phase === 'postLoad' && this.postLoadRan)
      throw new LifecycleError({ state: 'loaded, with its postLoad hooks run', call, allowed: ['loaded'] });
    if (phase === 'postLoad') this.loadNames = [...model.namedParameters()];
    await this.transaction(model, this.hooksFor(phase, model, context));
    if (phase === 'init') this.lifecycle.advance('initialized', call);
    else this.postLoadRan = true;
  }

  /**
   * The parameters under the names by which a checkpoint fills them: as they were before post-load hooks renamed them, in the same order.
   * @throws LifecycleError before the postLoad hooks have run.
   */
  parametersAtLoad<P extends ParameterFacts>(model: { namedParameters(): Iterable<[string, P]> }): Map<string, P> {
    if (!this.postLoadRan)
      throw new LifecycleError({
        state: this.lifecycle.state,
        call: 'parametersAtLoad',
        allowed: ['ready'],
        reason: this.lifecycle.reason,
      });
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
    const before = { ...inspect(model), tree: new TreeSnapshot(model) };
    let mark = this.ledger.mark();
    let putBack = (): void => undefined;
    let restored: boolean | null = null;
    const takeBack = (hook: string): boolean => {
      this.ledger.takeBack(mark);
      putBack();
      const isRestored = this.restore(model, before, hook);
      if (isRestored) this.lifecycle.advance('ready', 'reload');
      return isRestored;
    };
    const undo = (hook: string): boolean => (restored ??= takeBack(hook)); // once, whoever comes first
    let kept = false;
    try {
      putBack = this.ledger.suspend(this.undoable);
      mark = this.ledger.mark();
      apply();
      const { hooks, undoable } = await this.runAgain(model, context, before.parameters, undo);
      return {
        hooks,
        keep: () => {
          kept = true;
          this.undoable = undoable;
          this.lifecycle.advance('ready', 'reload');
        },
        [Symbol.dispose]: () => void (kept || undo('what followed the hooks of a reload')),
      };
    } catch (error) {
      undo('a reload');
      throw error;
    }
  }

  /** What `run` would do in a phase, without doing it. */
  plan<Context>(phase: Phase, model: InspectableModel, context: Context): HookRecord[] {
    return this.hooksFor(phase, model, context).map(({ run: _, ...facts }) => ({
      ...facts,
      outcome: this.runsInMode(facts) ? 'planned' : 'skipped: other mode',
      durationMs: 0,
    }));
  }

  /** What ran, what was renamed and which patches are in effect. */
  toJSON(): HookRunnerRecord {
    return { hooks: [...this.hookRecords], renames: [...this.renameRecords], patches: this.ledger.toJSON() };
  }

  private hooksFor(phase: Phase, model: InspectableModel, context: unknown): RunnableHook[] {
    return [...this.classHooks(phase, model), ...this.pluginHooks(phase, model, context)];
  }

  private classHooks(phase: Phase, model: InspectableModel): RunnableHook[] {
    return hooksOf(model.constructor as { prototype: object }, phase).map(
      ({ method, className, modes, reason, reload }: HookDeclaration) => ({
        phase,
        hook: `${className}.${method}`,
        plugin: this.target.chain.find((link) => link.className === className)?.plugin ?? this.target.owner.plugin,
        modes,
        reason,
        reload,
        run: (patches) => (model as unknown as Record<string, (patches: Patches) => void | Promise<void>>)[method]!(patches),
      }),
    );
  }

  private pluginHooks(phase: Phase, model: InspectableModel, context: unknown): RunnableHook[] {
    const { architecture, platform } = this.target;
    return this.hooks.flatMap((hook, index) => {
      if (hook.phase !== phase || hook.of !== architecture || hook.platform !== platform) return [];
      const name = hook.run.name === '' || hook.run.name === 'run' ? `hook ${index + 1}` : hook.run.name;
      return [
        {
          phase,
          hook: `${hook.owner.plugin}: ${name}`,
          plugin: hook.owner.plugin,
          modes: hook.modes ?? null,
          reason: hook.reason ?? null,
          reload: hook.reload ?? null,
          run: (patches: Patches) => hook.run(model as never, context as never, patches),
        },
      ];
    });
  }

  private async transaction(model: InspectableModel, hooks: readonly RunnableHook[]): Promise<void> {
    const before = { ...inspect(model), tree: new TreeSnapshot(model) };
    const mark = this.ledger.mark();
    const undo = (hook: string): boolean => {
      this.ledger.takeBack(mark);
      return this.restore(model, before, hook);
    };
    const records: HookRecord[] = [];
    const renames: RenameRecord[] = [];
    let parameters = before.parameters;
    for (const hook of hooks) {
      const { run: _, ...facts } = hook;
      if (!this.runsInMode(facts)) {
        records.push({ ...facts, outcome: 'skipped: other mode', durationMs: 0 });
        continue;
      }
      const ran = await this.runChecked(hook, model, parameters, undo);
      if (facts.reload === 'undo-redo') for (const id of ran.patches) this.undoable.add(id);
      renames.push(...ran.renames.map((rename) => ({ hook: facts.hook, ...rename })));
      const { durationMs, warnings } = ran;
      records.push({ ...facts, outcome: 'ran', durationMs, ...(warnings.length > 0 && { warnings }) });
      parameters = ran.parameters;
    }
    this.hookRecords.push(...records);
    for (const { hook, plugin, warnings = [] } of records)
      for (const message of warnings) this.events.emit('hook:warning', { hook, plugin, message });
    this.renameRecords.push(...renames);
  }

  /** The part of a reload that runs hooks. */
  private async runAgain(model: InspectableModel, context: unknown, before: ParameterSnapshot, undo: (hook: string) => boolean) {
    const hooks: ReloadedHook[] = [];
    const undoable = new Set<number>();
    let parameters = new ParameterSnapshot(model.namedParameters());
    for (const hook of this.hooksFor('postLoad', model, context)) {
      const { hook: name, plugin, reload } = hook;
      const record = (outcome: ReloadedHook['outcome'], durationMs = 0) => hooks.push({ hook: name, plugin, reload, outcome, durationMs });
      if (!this.runsInMode(hook)) record('skipped: other mode');
      else if (reload === 'keep') record('kept');
      else {
        const ran = await this.runChecked(hook, model, parameters, undo);
        parameters = ran.parameters;
        if (reload === 'undo-redo') for (const id of ran.patches) undoable.add(id);
        else if (ran.patches.length > 0 || ran.renames.length > 0)
          throw ReloadChangedModelError.byRerun(name, ran.patches.length, ran.renames);
        record(reload === 'undo-redo' ? 'undone and ran again' : 'ran again', ran.durationMs);
      }
    }
    // Other weights may have another storage format, but every parameter stands where it stood.
    const changes = before.compare(parameters).except('retyped');
    if (changes.length > 0) throw ReloadChangedModelError.byHooks(changes.map(changeText));
    return { hooks, undoable };
  }

  /** Runs one hook and holds it to its phase's promise; `undo` takes the whole phase back. */
  private async runChecked(
    { run, ...facts }: RunnableHook,
    model: InspectableModel,
    before: ParameterSnapshot,
    undo: (hook: string) => boolean,
  ) {
    const { phase, hook } = facts;
    const mark = this.ledger.mark();
    const started = performance.now();
    let parameters: ParameterSnapshot;
    let warnings: readonly string[];
    try {
      warnings = await this.runOne(facts, run, model);
      parameters = new ParameterSnapshot(model.namedParameters());
    } catch (cause) {
      throw new HookFailedError({ phase, hook, message: messageOf(cause), restored: undo(hook), cause });
    }
    const durationMs = performance.now() - started;
    const changes = before.compare(parameters);
    const refused = phase === 'init' ? changes.all : changes.except('renamed');
    if (refused.length > 0) throw new HookChangedParametersError({ phase, hook, changes: refused.map(changeText), restored: undo(hook) });
    const patches = this.ledger
      .toJSON()
      .slice(mark)
      .map(({ id }) => id);
    return { parameters, patches, renames: changes.renames, durationMs, warnings };
  }

  private runsInMode({ modes }: Pick<HookRecord, 'modes'>): boolean {
    return modes === null || (this.target.mode !== null && modes.includes(this.target.mode));
  }

  private async runOne(
    { hook, plugin, phase, reason }: Omit<RunnableHook, 'run'>,
    run: RunnableHook['run'],
    model: InspectableModel,
  ): Promise<readonly string[]> {
    const { patches, warnings, close } = this.ledger.open({ hook, plugin, phase }, reason, modulePaths(model));
    try {
      await run(patches);
      return warnings;
    } finally {
      close();
    }
  }

  /**
   * Takes back what a phase changed beside its patches, which are undone already. A model that keeps state out of reach (private fields, closures) may
   * still not be what it was; nothing may be done with it any more.
   */
  private restore(model: InspectableModel, before: Inspection & { tree: TreeSnapshot }, hook: string): boolean {
    before.tree.restore();
    if (isRestored(model, before)) return true;
    this.lifecycle.fail(`${hook} changed parameters or buffers that are out of the registry's reach`);
    return false;
  }
}

interface Inspection {
  parameters: ParameterSnapshot;
  buffers: ParameterSnapshot;
}

function isRestored(model: InspectableModel, before: Inspection): boolean {
  try {
    const now = inspect(model);
    return before.parameters.isSame(now.parameters) && before.buffers.isSame(now.buffers);
  } catch {
    return false; // it cannot even be read
  }
}

/** Where an object stands in the model, for the ledger; read at the first patch, and again for an object that was not there then. */
function modulePaths(model: InspectableModel): (instance: object) => string | null {
  let paths: ReadonlyMap<object, string> | null = null;
  return (instance) => {
    if (paths?.has(instance) !== true) paths = new Map([...(model.namedModules?.() ?? [])].map(([path, module]) => [module, path]));
    return paths.get(instance) ?? (instance === model ? '' : null);
  };
}

function inspect(model: InspectableModel): Inspection {
  return { parameters: new ParameterSnapshot(model.namedParameters()), buffers: new ParameterSnapshot(model.namedBuffers()) };
}
