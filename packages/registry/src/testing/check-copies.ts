import { messageOf } from '@graft/common';
import type { InspectableModel } from '../model.ts';
import { CheckFailedError, targetText } from './check-errors.ts';
import { type BuiltModel, type CheckOutcome, type Subject, snapshotOf } from './subject.ts';

/**
 * Two registries and two models in one process share no module, parameter, buffer or service of this plugin. Frozen constants may be shared.
 * The detail names each service that cannot be built here, such as one whose device is elsewhere.
 * @throws CheckFailedError, and the errors of building and of the init hooks.
 */
export async function checkCopiesShareNothing(subject: Subject, other: Subject): Promise<CheckOutcome> {
  await using first = await copyOf(subject);
  await using second = await copyOf(other);
  const modules = [...first.parts].filter(([part]) => second.parts.has(part)).map(([part, path]) => `${path} (${part.constructor.name})`);
  const services = [...first.services].filter(([name, value]) => isShareable(value) && second.services.get(name) === value);
  const shared = [...modules, ...services.map(([name]) => `the service ${name}`)];
  if (shared.length > 0) throw new CheckFailedError('GRAFT_CHECK_SHARED', targetText(subject.target), shared);
  const unbuilt = first.unbuilt.length === 0 ? '' : `; not built: ${first.unbuilt.join(', ')}`;
  return { outcome: 'held', detail: `${first.parts.size} modules and parameters, ${first.services.size} services${unbuilt}` };
}

async function copyOf({ plugin: checked, plugins, target, options, build }: Subject) {
  const built = build();
  await built.runner.run('init', built.model, built.context);
  const engine = plugins.createEngineContainer(target);
  const ofModel = engine.createModelContainer();
  await options.bind?.({ engine, model: ofModel }, built.context);
  const services = new Map<string, unknown>();
  const unbuilt: string[] = [];
  for (const { token, name } of plugins.plugins.find(({ plugin }) => plugin === checked)!.bindings) {
    if (!ofModel.has(token)) continue;
    await ofModel.get(token).then(
      (service) => services.set(name, service),
      (error: unknown) => unbuilt.push(`${name} (${messageOf(error).split('\n', 1)[0]!})`),
    );
  }
  return {
    parts: partsOf(built),
    services,
    unbuilt,
    [Symbol.asyncDispose]: () => engine[Symbol.asyncDispose](),
  };
}

/** Modules, parameters and buffers, each with its path; modules lent from outside the tree too. */
function partsOf(built: BuiltModel): Map<object, string> {
  const isModule = (object: Partial<InspectableModel>) => typeof object.namedParameters === 'function';
  const modules = [...snapshotOf(built).objects()].filter(([object]) => isModule(object));
  const named = [...built.model.namedParameters(), ...built.model.namedBuffers()].map(([name, facts]): [object, string] => [facts, name]);
  return new Map([...modules.map(([object, path]): [object, string] => [object, path || 'the model']), ...named]);
}

function isShareable(value: unknown): boolean {
  return ((typeof value === 'object' && value !== null) || typeof value === 'function') && !Object.isFrozen(value);
}
