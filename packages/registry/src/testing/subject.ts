import { readFileSync } from 'node:fs';
import { construct } from '../construct.ts';
import { HookRunner } from '../hook-runner.ts';
import { hooksOf, type Phase } from '../hooks.ts';
import { loadPlugins } from '../load-plugins.ts';
import type { LoadedPlugins } from '../loaded-plugins.ts';
import type { InspectableModel, ModelClass } from '../model.ts';
import type { Plugin } from '../plugin.ts';
import type { Resolution } from '../resolve.ts';
import { CheckTargetError } from './check-errors.ts';

/** One architecture on one platform, which a plugin overrides or hooks into. */
export interface CheckTarget {
  readonly architecture: string;
  readonly platform: string;
  /** The mode for which hooks are chosen; without one, hooks that name modes are skipped. */
  readonly mode?: string;
}

/** What the single checks need to build models: the plugin, what it comes after, and how a context and weights are made. */
export interface CheckSubject<Context = never, Model extends InspectableModel = InspectableModel> extends CheckTarget {
  readonly plugin: Plugin;
  /** The plugins that it comes after, in code: upstream models first. */
  readonly needs?: readonly Plugin[];
  /** A context for one model. Small is enough, and quick: nothing here depends on sizes. */
  context(target: CheckTarget): Context;
  /** Loads weights into a model whose init hooks have run. Without it, post-load hooks are not checked. */
  load?(model: Model, context: Context): void | Promise<void>;
}

/** Whether a property was seen to hold, or could not be looked at; one that does not hold is an error. */
export interface CheckOutcome {
  readonly outcome: 'held' | 'not checked';
  readonly detail: string;
}

/** A registry of its own with the plugin in it, and what it resolves the target to. */
export interface LoadedSubject<Context, Model extends InspectableModel> {
  readonly plugins: LoadedPlugins;
  readonly resolution: Resolution;
  build(): BuiltModel<Context, Model>;
  buildUpstream(): Promise<Model>;
}

export interface BuiltModel<Context, Model> {
  readonly model: Model;
  readonly context: Context;
  readonly runner: HookRunner;
}

// Beside both src/testing and dist/testing.
const { version } = JSON.parse(readFileSync(new URL('../../package.json', import.meta.url), 'utf8')) as { version: string };

/** @throws CheckTargetError when the plugin brings nothing for the target; what loading, resolving and importing throw. */
export async function loadSubject<Context, Model extends InspectableModel>(
  subject: CheckSubject<Context, Model>,
): Promise<LoadedSubject<Context, Model>> {
  const { plugin, needs = [], architecture, platform, mode } = subject;
  const plugins = await loadPlugins({ plugins: [...needs, plugin], specifiers: [], graftVersion: version });
  expectTarget(subject);
  const resolution = plugins.registry.resolve([architecture], { platform, ...(mode !== undefined && { mode }) });
  const Class = (await resolution.load()) as unknown as ModelClass<Context, Model>;
  const isOverridden = (plugin.overrides ?? []).some((override) => isFor(override, subject));
  if (isOverridden && !resolution.chain.some((link) => link.plugin === plugin.name)) {
    throw new CheckTargetError(plugin.name, subject, 'another override outranks it there', 'leave the other plugin out of `needs`.');
  }
  return {
    plugins,
    resolution,
    build() {
      const context = subject.context(subject);
      return { model: construct(Class, context), context, runner: new HookRunner(resolution, plugins.hooks) };
    },
    async buildUpstream() {
      const Upstream = (await plugins.registry.upstreamOf(architecture).load()) as unknown as ModelClass<Context, Model>;
      return construct(Upstream, subject.context(subject));
    },
  };
}

function expectTarget(subject: CheckTarget & { plugin: Plugin }): void {
  const targets = targetsOf(subject.plugin);
  if ([...(subject.plugin.overrides ?? []), ...(subject.plugin.hooks ?? [])].some((declared) => isFor(declared, subject))) return;
  const brings = targets.map(({ architecture, platform }) => `${architecture} on ${platform}`).join(', ') || 'nothing';
  throw new CheckTargetError(
    subject.plugin.name,
    subject,
    'it has no override and no hook there',
    `check what it brings for models (${brings}).`,
  );
}

/** Each architecture and platform that a plugin overrides or hooks into, once. */
export function targetsOf({ overrides = [], hooks = [] }: Plugin): { architecture: string; platform: string }[] {
  const targets = new Map<string, { architecture: string; platform: string }>();
  for (const { of: architecture, platform } of [...overrides, ...hooks])
    targets.set(`${architecture} ${platform}`, { architecture, platform });
  return [...targets.values()];
}

function isFor({ of, platform }: { of: string; platform: string }, target: CheckTarget): boolean {
  return of === target.architecture && platform === target.platform;
}

/** Whether a phase has any hook for this model, of its class or of a plugin. */
export function hasHooks(phase: Phase, model: InspectableModel, subject: CheckTarget, { hooks }: LoadedPlugins): boolean {
  const ofClass = hooksOf(model.constructor as { prototype: object }, phase);
  return ofClass.length > 0 || hooks.some((hook) => hook.phase === phase && isFor(hook, subject));
}

/** Takes a model on which `init` has run to where its post-load hooks may run. */
export async function loadWeights<Context, Model extends InspectableModel>(
  { load }: CheckSubject<Context, Model>,
  { model, context, runner }: BuiltModel<Context, Model>,
): Promise<void> {
  await load?.(model, context);
  runner.lifecycle.advance('loaded');
}
