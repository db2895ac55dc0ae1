export { type AppOptions, createApp } from './app.ts';
export { runCli } from './cli/main.ts';
export {
  type DefaultModelOptions,
  defaultArchitecture,
  ensureDefaultModel,
  ModelDownloadError,
  ModelHashError,
  type ModelSource,
  smolLm2,
} from './default-model.ts';
export { ApiError, type ApiErrorBody } from './openai/errors.ts';
export { ReloadWithoutKeyError, type SecurityOptions } from './security.ts';
