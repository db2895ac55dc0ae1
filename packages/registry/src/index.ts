export { inject, injectable, type Newable, optional } from 'inversify';
export { type Build, buildUpstream } from './build.ts';
export type { ModelCapabilities } from './capabilities.ts';
export { ContractBrokenError, type ContractReport } from './contract.ts';
export { type ClassContract, contractText, describeContract, UnknownClassError } from './describe-contract.ts';
export {
  ArchitectureConflictError,
  CapabilityUnknownError,
  ConstructionFailedError,
  ModuleFailedError,
  NotAModelClassError,
  OverrideBaseError,
  OverrideConditionError,
  OverrideShapeError,
  OverrideUnusedError,
  OverrideWithoutUpstreamError,
  PartUndeclaredError,
  RegistrationConflictError,
  RetiredArchitectureError,
  TargetAmbiguousError,
  TargetModeError,
  UnknownArchitectureError,
  WithoutUnknownError,
} from './errors.ts';
export { explain, explainHooks, groupPatches, type PatchGroup } from './explain.ts';
export {
  type HookEvents,
  type HookRecord,
  type HookReload,
  HookRunner,
  type HookRunnerRecord,
  type HookTarget,
  type LoadedHook,
  type RenameRecord,
} from './hook-runner.ts';
export {
  type HookDeclaration,
  hooksOf,
  InitHook,
  type InitHookOptions,
  type Phase,
  PostLoadHook,
  type PostLoadHookOptions,
  type PostLoadReload,
} from './hooks.ts';
export { describeIssue, type IssueWords } from './issues.ts';
export { Lifecycle, type LifecycleState } from './lifecycle.ts';
export { type LoadPluginsOptions, loadPlugins } from './load-plugins.ts';
export { type LoadedPlugin, LoadedPlugins, type PluginSource, type ServicesOptions } from './loaded-plugins.ts';
export { type LazyManifest, ManifestInvalidError, UpstreamManifest } from './manifest.ts';
export type {
  AnyClass,
  BufferFacts,
  ClassFactory,
  InspectableModel,
  LazyClass,
  LazyFactory,
  LazyFamily,
  LazyModel,
  ModelClass,
  ParameterFacts,
} from './model.ts';
export {
  HookChangedParametersError,
  HookFailedError,
  HookTargetError,
  LifecycleError,
  PatchOrderError,
  PatchOverwrittenError,
  PatchRefusedError,
  ReloadChangedModelError,
} from './model-errors.ts';
export { type ArchitectureListing, ModelRegistry, type OverrideOptions, type RegisterOptions } from './model-registry.ts';
export { nearestNames, quotedList } from './names.ts';
export { type Patches, PatchLedger, type PatchOperation, type PatchOptions, type PatchOwner, type PatchRecord } from './patch-ledger.ts';
export {
  type Detected,
  type DetectedPlatform,
  type Detection,
  type DeviceState,
  describePlatform,
  detectPlatform,
  NoPlatformError,
  type Platform,
  PlatformConflictError,
  PlatformUnavailableError,
  type SelectedPlatform,
  type ServedSizes,
  selectPlatform,
  UnknownPlatformError,
} from './platform.ts';
export {
  definePlugin,
  isPlugin,
  type ModelDeclaration,
  type OverrideDeclaration,
  type Plugin,
  type PluginDeclaration,
  type PluginHook,
  type ReliesOn,
  type RetiredArchitecture,
} from './plugin.ts';
export {
  NotAPluginError,
  PackageInvalidError,
  PlatformDuplicateError,
  PluginCycleError,
  PluginDuplicateError,
  PluginFailedError,
  PluginInvalidError,
  PluginMissingError,
  PluginNotFoundError,
  PluginSetsDifferError,
  PluginVersionError,
  RegistrationInvalidError,
  UnknownPluginError,
} from './plugin-errors.ts';
export { assertSamePluginSet, type PluginRecord, pluginRecord } from './plugin-set.ts';
export type { Owner } from './registration.ts';
export {
  type Candidate,
  type CandidateReason,
  Resolution,
  type ResolvedHook,
  type ResolvedLayer,
  resolutionJsonSchema,
} from './resolution.ts';
export type { ResolveContext } from './resolve.ts';
export { type Bind, type Binding, type BindingOptions, type BindingSyntax, defaultBindings, type Services } from './services/binder.ts';
export { ServiceContainer } from './services/container.ts';
export { type BindingRecord, type ServiceRecord, servicesText } from './services/describe.ts';
export {
  BinderClosedError,
  ServiceCycleError,
  ServiceFailedError,
  ServiceNotBoundError,
  ServiceNotInjectableError,
  TokenConflictError,
  TokenInvalidError,
  TokenScopeError,
} from './services/errors.ts';
export { listToken, type Scope, type Token, token } from './services/tokens.ts';
export type { ServingClasses } from './serving-classes.ts';
