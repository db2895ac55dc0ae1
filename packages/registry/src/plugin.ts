import semver from 'semver';
import * as z from 'zod';
import type { ModelCapabilities } from './capabilities.ts';
import type { PostLoadReload } from './hooks.ts';
import { issueTexts } from './issues.ts';
import type { LazyManifest } from './manifest.ts';
import { isMethodName } from './method-name.ts';
import type { InspectableModel, LazyClass, LazyFactory, LazyFamily, LazyModel } from './model.ts';
import type { Patches } from './patch-ledger.ts';
import type { Detected, Platform } from './platform.ts';
import { PluginInvalidError, RegistrationInvalidError } from './plugin-errors.ts';
import type { Owner } from './registration.ts';
import type { Bind } from './services/binder.ts';

/** An upstream class that the plugin brings. */
export interface ModelDeclaration {
  /** The name in a checkpoint's config.json (`architectures`). */
  architecture: string;
  model: LazyModel;
  /** What the engine must know of the model beside its class; the registry carries it and reads nothing in it. */
  family?: LazyFamily;
  capabilities?: ModelCapabilities;
  /** Architectures that it builds as parts of itself. Their overrides serve there too. */
  contains?: readonly string[];
}

/**
 * The drift contract: what an override needs of its base. Held against upstream when a model is built, before weights are read; `graft contract
 * CLASS` prints the facts to choose from. `Class.member` names any class of the upstream's manifest, a plain name the architecture's class.
 */
export interface ReliesOn {
  /** Paths on the built model, where `*` is any element: `model.layers.*.self_attn`; or fields and accessors: `Llama4Attention.attn`. */
  attributes?: readonly string[];
  /** `forward`, or with its parameters: `computeLogits(hiddenStates)`, `RmsNorm.forward(x)`. */
  methods?: readonly string[];
  /** Names of the built model's parameters, where `*` is any segment: `model.layers.*.self_attn.qkv_proj.weight`. */
  parameters?: readonly string[];
  /** Range of versions of the upstream plugin or package, as semver writes it. */
  version?: string;
  /** Hashes of the methods that the override copied: `{ 'Llama4Model.forward': '...' }`. Only the manifest knows what they are now. */
  copied?: Readonly<Record<string, string>>;
}

interface OverrideFacts {
  /** An architecture or a declared layer: `RmsNorm`, or `plugin/RmsNorm` where two plugins declare that name. */
  of: string;
  /** The platform that it serves. */
  platform: string;
  /** Higher wins; 0 unless given. Two equal ones that can serve in one place are an error. */
  priority?: number;
  /** Architectures and layers inside which it serves; everywhere when left out. */
  within?: readonly string[];
  /** The modes in which it serves; all when left out. */
  modes?: readonly string[];
  /** Whether it serves on this device: false, or the reason why not. Called at each resolution; properties of the device may be absent. */
  when?(device: Detected): boolean | string;
  /** Loading a model fails in which it replaces nothing: not one of these layers, or none in the classes of `within`. */
  required?: boolean;
  /** What upstream can do and this class cannot: `{ images: false }`. */
  capabilities?: Readonly<Record<string, false>>;
  reliesOn?: ReliesOn;
}

/** A subclass of the class it overrides, or a class factory, which stacks with other factories. */
export type OverrideDeclaration = OverrideFacts & ({ model: LazyModel; factory?: never } | { factory: LazyFactory; model?: never });

/** A patch that a plugin applies to models of an architecture on a platform, beside the hooks on the classes. */
export interface PluginHook<Model = never, Context = never> {
  of: string;
  platform: string;
  phase: 'init' | 'postLoad';
  /** The modes in which it runs; all when left out. */
  modes?: readonly string[];
  /** What it removes, for `explain`. */
  reason?: string;
  /** `postLoad` only, and required there: what a reload of the weights does with it. */
  reload?: PostLoadReload;
  run(model: Model, context: Context, patches: Patches): void | Promise<void>;
}

/** An architecture or a layer that is no longer here. */
export interface RetiredArchitecture {
  /** What happened and where it went: a version, a package, a new name. */
  note: string;
  /** The name that replaces it. */
  replacedBy?: string;
}

/** All that a vendor may declare. */
export interface PluginDeclaration {
  name: string;
  version?: string;
  /** The versions of Graft it works with, as a semver range. */
  graft?: string;
  /** Names of plugins that must be loaded, and come before it. */
  after?: readonly string[];
  platforms?: readonly Platform[];
  models?: readonly ModelDeclaration[];
  /** Parts of models that may be overridden, by the short name that `of` uses. */
  layers?: Readonly<Record<string, LazyClass>>;
  /** What `graft-manifest` wrote of the models' classes: `() => import('./manifest.ts').then((m) => m.manifest)`. */
  manifest?: LazyManifest;
  overrides?: readonly OverrideDeclaration[];
  hooks?: readonly PluginHook[];
  /** Retired or moved architectures and layers, by their old name. */
  retired?: Readonly<Record<string, RetiredArchitecture>>;
  /** Binds services. Called once at load; nothing is built then. */
  bind?(bind: Bind): void | Promise<void>;
}

const brand = Symbol.for('graft.plugin');

/** A validated declaration. A value: importing the module that defines it does nothing else. */
export interface Plugin extends PluginDeclaration {
  readonly [brand]: true;
}

const name = z.string().regex(/^[A-Za-z0-9@][\w@./-]*$/, 'must be a name of letters, digits and @ . / _ -');
const functionSchema = <F>() => z.custom<F>((value) => typeof value === 'function', 'must be a function');
const nonEmpty = z.string().min(1, 'must not be empty');

const reliesOn = z.strictObject({
  attributes: z.array(nonEmpty).exactOptional(),
  methods: z.array(z.string().refine(isMethodName, 'must be `method`, `method(parameters)` or `Class.method`')).exactOptional(),
  parameters: z.array(nonEmpty).exactOptional(),
  version: z
    .string()
    .refine((range) => semver.validRange(range) !== null, 'must be a semver range')
    .exactOptional(),
  copied: z.record(z.string(), nonEmpty).exactOptional(),
});

const modes = z.array(nonEmpty).exactOptional();

export const overrideSchema = z
  .strictObject({
    of: nonEmpty,
    platform: nonEmpty,
    priority: z.number().exactOptional(),
    within: z.array(nonEmpty).min(1, 'must name a class').exactOptional(),
    modes,
    when: functionSchema<(device: Detected) => boolean | string>().exactOptional(),
    required: z.boolean().exactOptional(),
    capabilities: z.record(z.string(), z.literal(false)).exactOptional(),
    model: functionSchema<LazyModel>().exactOptional(),
    factory: functionSchema<LazyFactory>().exactOptional(),
    reliesOn: reliesOn.exactOptional(),
  })
  .refine(
    ({ model, factory }) => (model === undefined) !== (factory === undefined),
    'must give exactly one of "model" (a subclass) and "factory"',
  );

export const hookSchema = z
  .strictObject({
    of: nonEmpty,
    platform: nonEmpty,
    phase: z.enum(['init', 'postLoad']),
    modes,
    reason: nonEmpty.exactOptional(),
    reload: z.enum(['rerun', 'keep', 'undo-redo']).exactOptional(),
    run: functionSchema<(model: InspectableModel, context: never, patches: Patches) => void | Promise<void>>(),
  })
  .refine(
    ({ phase, reload }) => (phase === 'postLoad') === (reload !== undefined),
    'must give "reload" in phase "postLoad", and only there',
  );

export const modelSchema = z.strictObject({
  architecture: nonEmpty,
  model: functionSchema<LazyModel>(),
  family: functionSchema<LazyFamily>().exactOptional(),
  capabilities: z.record(z.string(), z.unknown()).exactOptional(),
  contains: z.array(nonEmpty).exactOptional(),
});

export const layersSchema = z.record(z.string().regex(/^[A-Za-z_$][\w$]*$/, 'must be a class name'), functionSchema<LazyClass>());

export const resolveSchema = z.looseObject({
  architectures: z.array(z.string()),
  platform: nonEmpty.nullable(),
  mode: z.string().nullish(),
  without: z.array(nonEmpty).optional(),
});

const platform = z.looseObject({
  name,
  modes: z.array(nonEmpty).min(1, 'must name at least one mode'),
  fallback: z.boolean().exactOptional(),
  detect: functionSchema<Platform['detect']>(),
});

const declarationSchema = z.strictObject({
  name,
  version: nonEmpty.exactOptional(),
  graft: nonEmpty.exactOptional(),
  after: z.array(name).exactOptional(),
  // A platform may be a class instance: it is checked in place and never copied.
  platforms: z
    .array(z.custom<Platform>((value) => platform.safeParse(withInherited(value)).success, 'must be a Platform: { name, modes, detect() }'))
    .exactOptional(),
  models: z.array(modelSchema).exactOptional(),
  layers: layersSchema.exactOptional(),
  manifest: functionSchema<LazyManifest>().exactOptional(),
  overrides: z.array(overrideSchema).exactOptional(),
  hooks: z.array(hookSchema).exactOptional(),
  retired: z.record(z.string(), z.strictObject({ note: nonEmpty, replacedBy: nonEmpty.exactOptional() })).exactOptional(),
  bind: functionSchema<PluginDeclaration['bind']>().exactOptional(),
});

/** A platform's fields, inherited ones too, so that a class instance validates like a literal. */
function withInherited(value: unknown): unknown {
  if (typeof value !== 'object' || value === null) return value;
  const { name, modes, fallback, detect } = value as Partial<Platform>;
  return { name, modes, detect, ...(fallback === undefined ? {} : { fallback }) };
}

/**
 * Validates a declaration and freezes it. No side effects: the plugin is loaded by `loadPlugins`.
 * @throws PluginInvalidError that names each field at fault.
 */
export function definePlugin(declaration: PluginDeclaration): Plugin {
  const result = declarationSchema.safeParse(declaration);
  if (!result.success) {
    const named = typeof (declaration as { name?: unknown } | null)?.name === 'string' ? declaration.name : null;
    throw new PluginInvalidError(named, issueTexts(result.error, declarationSchema, 'the declaration'));
  }
  return Object.freeze({ ...declaration, [brand]: true as const });
}

/** @throws RegistrationInvalidError that names each argument at fault. */
export function parseDeclared<S extends z.ZodType>(call: string, schema: S, value: unknown, owner: Owner): z.output<S> {
  const result = schema.safeParse(value);
  if (result.success) return result.data;
  throw new RegistrationInvalidError(call, issueTexts(result.error, schema, 'the arguments'), owner);
}

/** Whether a value came from `definePlugin`, of this or of another copy of the package. */
export function isPlugin(value: unknown): value is Plugin {
  return typeof value === 'object' && value !== null && brand in value;
}
