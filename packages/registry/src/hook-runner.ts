import { messageOf } from '@graft/common';
import { type HookDeclaration, hooksOf, type Phase, type PostLoadReload } from './hooks.ts';
import { Lifecycle } from './lifecycle.ts';
import type { InspectableModel } from './model.ts';
import { HookChangedParametersError, HookFailedError, LifecycleError } from './model-errors.ts';
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

/** What a runner reads on a resolution. */
export type HookTarget = Pick<Resolution, 'architecture' | 'platform' | 'mode' | 'chain' | 'owner'>;

interface RunnableHook extends Omit<HookRecord, 'outcome' | 'durationMs'> {
  run(patches: Patches): void | Promise<void>;
}

/**
 * Runs the hooks of one model. Each phase is a transaction: either every hook of it ran and kept the phase's promise, or the model is as it was
 * before the phase, or it is marked `failed` and nothing more can be done with it.
 */
export class HookRunner {
  readonly lifecycle: Lifecycle;
  readonly ledger: PatchLedger;
  private readonly target: HookTarget;
  private readonly hooks: readonly LoadedHook[];
  private readonly hookRecords: HookRecord[] = [];
  private readonly renameRecords: RenameRecord[] = [];
  private postLoadRan = false;

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
    const hooks = [...this.classHooks(phase, model), ...this.pluginHooks(phase, model, context)];
    await this.transaction(phase, model, hooks);
    if (phase === 'init') this.lifecycle.advance('initialized', call);
    else this.postLoadRan = true;
  }

  /** What `run` would do in a phase, without doing it. */
  plan<Context>(phase: Phase, model: InspectableModel, context: Context): HookRecord[] {
    return [...this.classHooks(phase, model), ...this.pluginHooks(phase, model, context)].map(({ run: _, ...facts }) => ({
      ...facts,
      outcome: this.runsInMode(facts) ? 'planned' : 'skipped: other mode',
      durationMs: 0,
    }));
  }

  /** What ran, what was renamed and which patches are in effect. */
  toJSON(): HookRunnerRecord {
    return { hooks: [...this.hookRecords], renames: [...this.renameRecords], patches: this.ledger.toJSON() };
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
      if (hook.phase !== phase || hook.architecture !== architecture || hook.platform !== platform) return [];
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

  private async transaction(phase: Phase, model: InspectableModel, hooks: readonly RunnableHook[]): Promise<void> {
    const before = { ...inspect(model), tree: new TreeSnapshot(model) };
    const mark = this.ledger.mark();
    const records: HookRecord[] = [];
    const renames: RenameRecord[] = [];
    let parameters = before.parameters;
    for (const { run, ...facts } of hooks) {
      const { hook } = facts;
      if (!this.runsInMode(facts)) {
        records.push({ ...facts, outcome: 'skipped: other mode', durationMs: 0 });
        continue;
      }
      const started = performance.now();
      let after: ParameterSnapshot;
      try {
        await this.runOne(facts, run, model);
        after = new ParameterSnapshot(model.namedParameters());
      } catch (cause) {
        throw new HookFailedError({ phase, hook, message: messageOf(cause), restored: this.rollBack(model, before, mark, hook), cause });
      }
      const changes = parameters.compare(after);
      const refused = phase === 'init' ? changes.all : changes.except('renamed');
      if (refused.length > 0) {
        const restored = this.rollBack(model, before, mark, hook);
        throw new HookChangedParametersError({ phase, hook, changes: refused.map(changeText), restored });
      }
      renames.push(...changes.renames.map((rename) => ({ hook, ...rename })));
      records.push({ ...facts, outcome: 'ran', durationMs: performance.now() - started });
      parameters = after;
    }
    this.hookRecords.push(...records);
    this.renameRecords.push(...renames);
  }

  private runsInMode({ modes }: Pick<HookRecord, 'modes'>): boolean {
    return modes === null || (this.target.mode !== null && modes.includes(this.target.mode));
  }

  private async runOne(
    { hook, plugin, phase, reason }: Omit<RunnableHook, 'run'>,
    run: RunnableHook['run'],
    model: InspectableModel,
  ): Promise<void> {
    const { patches, close } = this.ledger.open({ hook, plugin, phase }, reason, modulePaths(model));
    try {
      await run(patches);
    } finally {
      close();
    }
  }

  /**
   * Undoes the phase's patches, then what it changed beside them. A model that keeps state out of reach (private fields, closures) may still not be
   * what it was; nothing may be done with it any more.
   */
  private rollBack(model: InspectableModel, before: Inspection & { tree: TreeSnapshot }, mark: number, hook: string): boolean {
    this.ledger.takeBack(mark);
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
