import { readFileSync } from 'node:fs';
import type { ServiceContainer } from '@graft/services';
import type { Build } from '../build.ts';
import { type HookRecord, HookRunner } from '../hook-runner.ts';
import { loadPlugins } from '../load-plugins.ts';
import type { LoadedPlugins } from '../loaded-plugins.ts';
import type { InspectableModel } from '../model.ts';
import type { Plugin } from '../plugin.ts';
import { modulesOf, Snapshot } from '../snapshot.ts';
import type { ReloadSubject } from './check-reload.ts';

export interface CheckTarget {
  readonly architecture: string;
  readonly platform: string;
  readonly mode: string;
}

export interface CheckPluginOptions<Context = never, Model extends InspectableModel = InspectableModel, Running = unknown> {
  /** The plugins that it comes after: upstream models first, and the platform where the plugin does not bring it. */
  needs?: readonly Plugin[];
  /** A context for one model. Make it small: no check depends on sizes. */
  context(target: CheckTarget & { readonly build: Build }): Context;
  /** The architectures for overrides of layers and hooks on layers; default: all that are registered. */
  architectures?: readonly string[];
  /** The modes to check; default: all of the platform. */
  modes?: readonly string[];
  /** Loads weights into a model whose init hooks have run. Without it, post-load hooks are not checked. */
  load?(model: Model, context: Context): void | Promise<void>;
  /** Adds the application's bindings for a model, which the plugin's services need. */
  bind?(containers: { engine: ServiceContainer; model: ServiceContainer }, context: Context): void | Promise<void>;
  /** How to reload one target; null: "reload equals a fresh load" is not checked. */
  reload?(target: CheckTarget): ReloadSubject<Running> | null;
}

/** Whether a property holds, or could not be checked; one that does not hold is an error. */
export interface CheckOutcome {
  readonly outcome: 'held' | 'not checked';
  readonly detail: string;
}

/** The checks need no more of a model and its context than this. */
export type CheckOptions = CheckPluginOptions<unknown, InspectableModel>;

export interface BuiltModel {
  readonly model: InspectableModel;
  readonly context: unknown;
  readonly runner: HookRunner;
}

// Next to both src/testing and dist/testing.
const { version } = JSON.parse(readFileSync(new URL('../../package.json', import.meta.url), 'utf8')) as { version: string };

export function loadWith(plugin: Plugin, needs: readonly Plugin[] = []): Promise<LoadedPlugins> {
  return loadPlugins({ plugins: [...needs, plugin], specifiers: [], graftVersion: version });
}

/** A registry with the plugin in it, and the models of one target that it makes. */
export type Subject = Awaited<ReturnType<typeof loadSubject>>;

export async function loadSubject(plugin: Plugin, options: CheckOptions, target: CheckTarget) {
  const plugins = await loadWith(plugin, options.needs);
  const { registry } = plugins;
  const classes = await registry.load<unknown, InspectableModel>(registry.resolve([target.architecture], target));
  let before: Snapshot | null = null;
  let takesBuild = false;
  const facts = {
    ...target,
    get build(): Build {
      takesBuild = true;
      return classes.build;
    },
  };
  return {
    plugin,
    plugins,
    target,
    classes,
    options,
    /** Whether the caller's `context` took the `build` that it was given; only through that do overrides of layers serve. */
    takesBuild: () => takesBuild,
    build(): BuiltModel {
      const context = options.context(facts);
      const model = classes.build(classes.Model, context);
      before ??= Snapshot.ofModel(model).ofClasses();
      return { model, context, runner: new HookRunner(classes.resolution, plugins.hooks) };
    },
    async buildUpstream(): Promise<InspectableModel> {
      const { build, Model } = await registry.load<unknown, InspectableModel>(registry.upstreamOf(target.architecture));
      return build(Model, options.context({ ...target, build }));
    },
    /** Takes a model from `initialized` to `loaded`; false where its postLoad hooks need weights and the options load none. */
    async load({ model, context, runner }: BuiltModel): Promise<boolean> {
      if (options.load === undefined && (await runner.plan('postLoad', model)).length > 0) return false;
      await options.load?.(model, context);
      runner.lifecycle.advance('loaded');
      return true;
    },
    /** Changes in the classes of the model since the first build. Restores the classes. */
    classChanges(): string[] {
      const changes = before?.differences(before.again()) ?? [];
      before?.restore();
      return changes;
    },
  };
}

/** Whether a class of the plugin serves in the model, and the plan of each hook that the plugin brings. */
export async function touchedBy({
  plugin,
  classes,
  ...subject
}: Subject): Promise<{ serves: boolean; hooks: HookRecord[]; takesBuild: boolean }> {
  const { model, runner } = subject.build();
  const hooks = [...(await runner.plan('init', model)), ...(await runner.plan('postLoad', model))];
  const upstream = new Set([...modulesOf(await subject.buildUpstream()).values()].map((module) => module.constructor));
  const [, ...parts] = modulesOf(model).values();
  const serves =
    classes.resolution.chain.some((link) => link.plugin === plugin.name) || parts.some((part) => !upstream.has(part.constructor));
  return { serves, takesBuild: subject.takesBuild(), hooks: hooks.filter((hook) => hook.plugin === plugin.name) };
}

/** The context is not entered: it belongs to the caller, and models only read it. */
export function snapshotOf({ model, context }: BuiltModel): Snapshot {
  return Snapshot.ofModel(model, { deep: true, ignored: typeof context === 'object' && context !== null ? [context] : [] });
}
