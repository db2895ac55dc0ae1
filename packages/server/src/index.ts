export { type AppOptions, createApp } from './app.ts';
export { runCli } from './cli/main.ts';
export {
  type DefaultModelOptions,
  defaultArchitecture,
  ensureDefaultModel,
  ModelDownloadError,
  type ModelSource,
  smolLm2,
} from './models/default-model.ts';
export { ModelHashError } from './models/errors.ts';
export { type PulledModel, type PullOptions, pullModel } from './models/pull-model.ts';
export { mount } from './mount.ts';
export { ApiError, type ApiErrorBody } from './openai/errors.ts';
export { ReloadWithoutKeyError, type SecurityOptions } from './security.ts';
