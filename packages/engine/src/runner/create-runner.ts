import { NoBackendError } from '../errors.ts';
import { BackendOf, ModelRunnerOf } from '../tokens.ts';
import { AnyShapeRunner } from './any-shape-runner.ts';
import type { ModelRunner, RunnerParts } from './model-runner.ts';

/**
 * The platform's own runner, or one for any shape over its backend. The caller owns it.
 * @throws NoBackendError, and what the platform's own throws.
 */
export async function createRunner(parts: RunnerParts): Promise<ModelRunner> {
  const { container } = parts;
  const { name } = parts.platform.platform;
  if (container.has(ModelRunnerOf(name))) return (await container.getAsync(ModelRunnerOf(name)))(parts);
  if (!container.has(BackendOf(name))) throw new NoBackendError(name);
  return new AnyShapeRunner(parts, await container.getAsync(BackendOf(name)));
}
