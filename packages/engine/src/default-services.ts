import { float32Policy } from '@graft/core-model';
import { type Binding, defaultBindings, type LoadedPlugins, type SelectedPlatform, type ServiceContainer } from '@graft/registry';
import type { EngineConfig } from './config.ts';
import { apiLogitsProcessors } from './logits-processors.ts';
import { AnyShapeRunner } from './runner/any-shape-runner.ts';
import { FirstComeFirstServed } from './scheduler-policy.ts';
import { LogitsProcessors, ModelRunner, SchedulerPolicy, WeightPolicy } from './tokens.ts';

/** What an engine has of each service that no plugin binds. */
export const engineServices: readonly Binding[] = defaultBindings('engine', (bind) => {
  bind(ModelRunner).to(AnyShapeRunner);
  bind(WeightPolicy).toConstantValue(float32Policy);
  bind(SchedulerPolicy).to(FirstComeFirstServed);
  for (const processor of apiLogitsProcessors) bind.many(LogitsProcessors).toConstantValue(processor);
});

/** The services of an engine on a platform, in its default mode unless the config names one. */
export function createServices(
  plugins: LoadedPlugins,
  { platform }: Pick<SelectedPlatform, 'platform'>,
  { mode = platform.modes[0]! }: Partial<Pick<EngineConfig, 'mode'>>,
): ServiceContainer {
  return plugins.createEngineContainer({ platform: platform.name, mode, defaults: engineServices });
}
