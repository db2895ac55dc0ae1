import { noteCopy } from '@graft/common';

export { describeIssue, nearestNames, quotedList } from '@graft/common';
export {
  type Bind,
  type Binding,
  type BindingOptions,
  boundBy,
  defaultBindings,
  inject,
  injectable,
  listToken,
  type Newable,
  type Owner,
  optional,
  ownerText,
  ServiceContainer,
  ServiceNotBoundError,
  type ServiceRecord,
  type Services,
  servicesText,
  type Token,
  token,
} from '@graft/services';
export { type Build, buildUpstream } from './build.ts';
export {
  type BuildCompared,
  compareUpstream,
  comparisonText,
  type UpstreamComparison,
  type UpstreamDifference,
} from './compare-upstream.ts';
export { type ClassContract, contractText, describeContract, UnknownClassError } from './describe-contract.ts';
export { UnknownArchitectureError } from './errors.ts';
export { explain, explainHooks, groupPatches, type PatchGroup } from './explain.ts';
export { type HookRecord, type HookReload, HookRunner, type HookRunnerRecord, type RenameRecord } from './hook-runner.ts';
export { InitHook, PostLoadHook } from './hooks.ts';
export { type LoadPluginsOptions, loadPlugins } from './load-plugins.ts';
export { LoadedPlugins } from './loaded-plugins.ts';
export { UpstreamManifest } from './manifest.ts';
export type {
  AnyClass,
  BufferFacts,
  ClassFactory,
  InspectableModel,
  LazyClass,
  LazyFamily,
  LazyModel,
  ModelClass,
  ParameterFacts,
} from './model.ts';
export { ModelRegistry } from './model-registry.ts';
export { readUpstream, type UpstreamVersion } from './package-manifest.ts';
export { type Patches, PatchLedger, type PatchOptions, type PatchRecord } from './patch-ledger.ts';
export type { Detected, DetectedPlatform, Detection, DeviceState, Platform, SelectedPlatform, ServedSizes } from './platform.ts';
export { describePlatform, detectPlatform, selectPlatform } from './platform.ts';
export { definePlugin, type OverrideDeclaration, type Plugin, type PluginDeclaration, type PluginHook, type ReliesOn } from './plugin.ts';
export { PluginSetsDifferError } from './plugin-errors.ts';
export { assertSamePluginSet, type PluginRecord, pluginRecord } from './plugin-set.ts';
export { Resolution } from './resolution.ts';
export type { ServingClasses } from './serving-classes.ts';

noteCopy('@graft/registry', import.meta.url);
