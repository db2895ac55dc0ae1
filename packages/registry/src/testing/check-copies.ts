import { messageOf } from '@graft/common';
import type { InspectableModel } from '../model.ts';
import { CheckFailedError, targetText } from './check-errors.ts';
import { snapshotOf } from './check-model.ts';
import type { BuiltModel, CheckOutcome, Subject } from './subject.ts';

/**
 * Two registries and two models in one process hold no module, parameter, buffer or service of this plugin in common. Constants that are frozen may be
 * shared. A service that cannot be built here (its device is elsewhere) is named in the detail.
 * @throws CheckFailedError, and what building and the init hooks throw.
 */
export async function checkCopiesShareNothing(subject: Subject, other: Subject): Promise<CheckOutcome> {
  await using first = await copy(subject);
  await using second = await copy(other);
  const modules = [...first.parts].filter(([part]) => second.parts.has(part)).map(([part, path]) => `${path} (${part.constructor.name})`);
  const services = [...first.services].filter(([name, value]) => isShareable(value) && second.services.get(name) === value);
  const shared = [...modules, ...services.map(([name]) => `the service ${name}`)];
  if (shared.length > 0) throw new CheckFailedError('GRAFT_CHECK_SHARED', targetText(subject.target), shared);
  const unbuilt = first.unbuilt.length === 0 ? '' : `; not built: ${first.unbuilt.join(', ')}`;
  return { outcome: 'held', detail: `${first.parts.size} modules and parameters, ${first.services.size} services${unbuilt}` };
}

interface Copy extends AsyncDisposable {
  /** Modules, parameters and buffers, each with its path. */
  readonly parts: ReadonlyMap<object, string>;
  readonly services: ReadonlyMap<string, unknown>;
  readonly unbuilt: readonly string[];
}

async function copy(subject: Subject): Promise<Copy> {
  const { plugins, plugin: checked, target, options } = subject;
  const built = subject.build();
  const { model, context, runner } = built;
  await runner.run('init', model, context);
  const engine = plugins.createEngineContainer(target);
  const ofModel = engine.createModelContainer();
  await options.bind?.({ engine, model: ofModel }, context);
  const services = new Map<string, unknown>();
  const unbuilt: string[] = [];
  const bindings = plugins.plugins.find(({ plugin }) => plugin === checked)!.bindings;
  for (const { token, name } of bindings) {
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
    async [Symbol.asyncDispose]() {
      await engine[Symbol.asyncDispose]();
    },
  };
}

/** Lent modules too: they are no part of the tree, and are shared all the same if they are. */
function partsOf(built: BuiltModel): Map<object, string> {
  const isModule = (object: Partial<InspectableModel>) => typeof object.namedParameters === 'function';
  const modules = [...snapshotOf(built).objects()].filter(([object]) => isModule(object));
  const named = [...built.model.namedParameters(), ...built.model.namedBuffers()];
  return new Map([
    ...modules.map(([object, path]) => [object, path || 'the model'] as const),
    ...named.map(([name, facts]) => [facts, name] as const),
  ]);
}

function isShareable(value: unknown): boolean {
  return ((typeof value === 'object' && value !== null) || typeof value === 'function') && !Object.isFrozen(value);
}
