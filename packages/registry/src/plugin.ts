import { expectValid, functionSchema, nonEmpty } from '@graft/common';
import type { Bind, Owner } from '@graft/services';
import semver from 'semver';
import * as z from 'zod';
import type { LazyManifest } from './manifest.ts';
import { isMethodName } from './method-name.ts';
import type { LazyClass, LazyFactory, LazyFamily, LazyModel } from './model.ts';
import type { Patches } from './patch-ledger.ts';
import type { Detected, Platform } from './platform.ts';
import { PluginInvalidError, RegistrationInvalidError } from './plugin-errors.ts';

const name = z.string().regex(/^[A-Za-z0-9@][\w@./-]*$/, 'must be a name of letters, digits and @ . / _ -');
const names = z.array(nonEmpty).readonly();
const someNames = z.array(nonEmpty).min(1, 'must name at least one').readonly();
const range = z.string().refine((text) => semver.validRange(text) !== null, 'must be a semver range');
const method = z.string().refine(isMethodName, 'must be `method`, `method(parameters)` or `Class.method`');

const reliesOn = z.strictObject({
  /** Paths on the built model, where `*` is any element: `model.layers.*.self_attn`; or fields and accessors: `DecoderLayer.norm`. */
  attributes: names.exactOptional(),
  /** `forward`, or with its parameters: `computeLogits(hiddenStates)`, `RmsNorm.forward(x)`. */
  methods: z.array(method).readonly().exactOptional(),
  /** Names of the built model's parameters, where `*` is any segment: `model.layers.*.self_attn.qkv_proj.weight`. */
  parameters: names.exactOptional(),
  /** Range of versions of the upstream plugin or package, as semver writes it. */
  version: range.exactOptional(),
  /** Hashes of the methods that the override copied: `{ 'DecoderLayer.forward': '...' }`. Only the manifest knows the present ones. */
  copied: z.record(z.string(), nonEmpty).readonly().exactOptional(),
});

/**
 * The drift contract: what an override needs of its base. Held against upstream when a model is built, before weights are read; `graft contract
 * CLASS` prints the facts to choose from. `Class.member` names any class of the upstream's manifest, a plain name the architecture's class.
 */
export type ReliesOn = z.input<typeof reliesOn>;

const overrideFacts = z.strictObject({
  /** An architecture or a declared layer: `RmsNorm`, or `plugin/RmsNorm` where two plugins declare that name. */
  of: nonEmpty,
  platform: nonEmpty,
  /** Higher wins; 0 unless given. Two equal ones that can serve in one place are an error. */
  priority: z.number().exactOptional(),
  /** Architectures and layers inside which it serves; everywhere when left out. */
  within: someNames.exactOptional(),
  /** The modes in which it serves; all when left out. */
  modes: someNames.exactOptional(),
  /** Whether it serves on this device: false, or the reason why not. Called at each resolution; properties of the device may be absent. */
  when: functionSchema<(device: Detected) => boolean | string>().exactOptional(),
  /**
   * Loading a model fails if the override replaces nothing in it. Applies on its platform and in its modes only, and not where `within` names other
   * models. A platform that no plugin brings is an error.
   */
  required: z.boolean().exactOptional(),
  /** Capabilities of upstream that this class lacks: `{ images: false }`. */
  capabilities: z.record(z.string(), z.literal(false)).readonly().exactOptional(),
  reliesOn: reliesOn.exactOptional(),
});

export const overrideSchema = overrideFacts
  .extend({ model: functionSchema<LazyClass>().exactOptional(), factory: functionSchema<LazyFactory>().exactOptional() })
  .refine(
    ({ model, factory }) => (model === undefined) !== (factory === undefined),
    'must give exactly one of "model" (a subclass) and "factory"',
  );

/** A subclass of the class it overrides, or a class factory, which stacks with other factories. */
export type OverrideDeclaration = z.input<typeof overrideFacts> &
  ({ model: LazyClass; factory?: never } | { factory: LazyFactory; model?: never });

/** The options of a hook, in a declaration or in a decorator. */
export const hookOptions = z.strictObject({
  /** The modes in which it runs; all when left out. */
  modes: someNames.exactOptional(),
  /** The guard or branch that it removes, for `explain`. */
  reason: nonEmpty.exactOptional(),
  /** `postLoad` only, and required there: what a reload of the weights does with it. */
  reload: z.enum(['rerun', 'keep', 'undo-redo']).exactOptional(),
});

const hookFacts = hookOptions.extend({
  /** An architecture, a declared layer, or `*` for all models of the platform. */
  of: nonEmpty,
  platform: nonEmpty,
  phase: z.enum(['init', 'postLoad']),
});

export const hookSchema = hookFacts
  .extend({ run: functionSchema<PluginHook['run']>() })
  .refine(
    ({ phase, reload }) => (phase === 'postLoad') === (reload !== undefined),
    'must give "reload" in phase "postLoad", and only there',
  );

/** A patch that a plugin applies to models or layers on a platform, in addition to the hooks on the classes. */
export interface PluginHook<Model = never, Context = never> extends z.input<typeof hookFacts> {
  run(model: Model, context: Context, patches: Patches): void | Promise<void>;
}

export const modelSchema = z.strictObject({
  /** The name in a checkpoint's config.json (`architectures`). */
  architecture: nonEmpty,
  model: functionSchema<LazyModel>(),
  /** All else that the engine needs of the model. The registry passes it on and does not read it. */
  family: functionSchema<LazyFamily>().exactOptional(),
  capabilities: z.record(z.string(), z.unknown()).readonly().exactOptional(),
  /** Architectures that it builds as parts of itself. Their overrides serve there too. */
  contains: names.exactOptional(),
});

export type ModelDeclaration = z.input<typeof modelSchema>;

export const layersSchema = z
  .record(z.string().regex(/^[A-Za-z_$][\w$]*$/, 'must be a class name'), functionSchema<LazyClass>())
  .readonly();

export const resolveSchema = z.looseObject({
  architectures: z.array(z.string()),
  platform: nonEmpty.nullable(),
  mode: z.string().nullish(),
  without: z.array(nonEmpty).optional(),
  requireOverride: z.boolean().optional(),
});

const retired = z.strictObject({
  /** The reason, and where it went: a version, a package, a new name. */
  note: nonEmpty,
  replacedBy: nonEmpty.exactOptional(),
});

export const retiredSchema = z.record(nonEmpty, retired).readonly();

/** An architecture or a layer that is no longer here. */
export type RetiredArchitecture = z.input<typeof retired>;

const platform = z.object({
  name,
  modes: z.array(nonEmpty).min(1, 'must name at least one mode'),
  fallback: z.boolean().optional(),
  preferredOver: z.array(nonEmpty).optional(),
  detect: functionSchema<Platform['detect']>(),
});

// A platform may be a class instance: it is checked in place and never copied.
const platformSchema = z.custom<Platform>().superRefine((value, { addIssue }) => {
  for (const { path, message } of platform.safeParse(value).error?.issues ?? []) addIssue({ code: 'custom', path, message });
});

const declarationSchema = z.strictObject({
  name,
  version: nonEmpty.exactOptional(),
  /** The versions of Graft it works with, as a semver range. */
  graft: nonEmpty.exactOptional(),
  /** Names of plugins that must be loaded, and come before it. */
  after: z.array(name).readonly().exactOptional(),
  platforms: z.array(platformSchema).readonly().exactOptional(),
  models: z.array(modelSchema).readonly().exactOptional(),
  /** Parts of models that may be overridden, by the short name that `of` uses. */
  layers: layersSchema.exactOptional(),
  /** The file that `graft-manifest` wrote about the models' classes: `() => import('./manifest.ts').then((m) => m.manifest)`. */
  manifest: functionSchema<LazyManifest>().exactOptional(),
  overrides: z.array(overrideSchema).readonly().exactOptional(),
  hooks: z.array(hookSchema).readonly().exactOptional(),
  /** Retired or moved architectures and layers, by their old name. */
  retired: retiredSchema.exactOptional(),
  /** Binds services. Called once at load; nothing is built then. */
  bind: functionSchema<(bind: Bind) => void | Promise<void>>().exactOptional(),
});

export interface PluginDeclaration extends Omit<z.input<typeof declarationSchema>, 'overrides' | 'hooks'> {
  overrides?: readonly OverrideDeclaration[];
  hooks?: readonly PluginHook[];
}

const brand = Symbol.for('graft.plugin');

/** A validated declaration. A value: importing the module that defines it does nothing else. */
export interface Plugin extends PluginDeclaration {
  readonly [brand]: true;
}

/** Validates a declaration and freezes it; `loadPlugins` loads it. @throws PluginInvalidError that names each field at fault. */
export function definePlugin(declaration: PluginDeclaration): Plugin {
  const named = typeof (declaration as { name?: unknown } | null)?.name === 'string' ? declaration.name : null;
  expectValid(declarationSchema, declaration, 'the declaration', (problems) => new PluginInvalidError(named, problems));
  return Object.freeze({ ...declaration, [brand]: true as const });
}

export function parseDeclared<S extends z.ZodType>(call: string, schema: S, value: unknown, owner: Owner): z.output<S> {
  return expectValid(schema, value, 'the arguments', (problems) => new RegistrationInvalidError(call, problems, owner));
}

/** Whether a value came from `definePlugin`, of this or of another copy of the package. */
export function isPlugin(value: unknown): value is Plugin {
  return typeof value === 'object' && value !== null && brand in value;
}
