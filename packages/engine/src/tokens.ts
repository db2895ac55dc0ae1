import type { WeightPolicy } from '@graft/core-model';
import type { Backend } from '@graft/graph';
import { type ServiceIdentifier, token } from '@graft/registry';
import type { LogitsProcessor } from './logits-processors.ts';
import type { CreateModelRunner } from './runner/model-runner.ts';
import type * as policy from './scheduler-policy.ts';

/** A service that each platform's plugin binds its own of, so that several platforms can be loaded beside each other. */
function perPlatform<T>(name: string): (platform: string) => ServiceIdentifier<T> {
  const tokens = new Map<string, ServiceIdentifier<T>>();
  return (platform) => {
    let found = tokens.get(platform);
    if (found === undefined) tokens.set(platform, (found = token<T>(`${name}(${platform})`, 'engine')));
    return found;
  };
}

/** What compiles and runs models on a platform: `bind.bind(BackendOf('cpu')).toDynamicValue(...)` in `bindEngine`. */
export const BackendOf = perPlatform<Backend>('Backend');

/** How a platform makes the runner of a model's steps. Where none is bound: one for any shape, over `BackendOf`. */
export const ModelRunnerOf = perPlatform<CreateModelRunner>('ModelRunner');

/** The platform's choice of weight forms (`--weights auto`). Where none is bound, everything is float32. */
export const WeightPolicyOf = perPlatform<WeightPolicy>('WeightPolicy');

export type SchedulerPolicy = policy.SchedulerPolicy;
/** Which waiting sequence is next, and how much of a prompt a step computes. Default: first come, first served. */
export const SchedulerPolicy: ServiceIdentifier<SchedulerPolicy> = token('SchedulerPolicy', 'engine');

/** What changes the logits of each sequence before a token is chosen, in order. Default: what the parameters of the API ask for. */
export const LogitsProcessors: ServiceIdentifier<readonly LogitsProcessor[]> = token('LogitsProcessors', 'engine');
