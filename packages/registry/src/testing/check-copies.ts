import { messageOf } from '@graft/common';
import type { EngineContainer, ModelContainer } from '../containers.ts';
import type { InspectableModel } from '../model.ts';
import { CheckSharedError } from './check-errors.ts';
import { ObjectState } from './object-state.ts';
import { type CheckOutcome, type CheckSubject, loadSubject } from './subject.ts';

export interface CopiesSubject<Context = never, Model extends InspectableModel = InspectableModel> extends CheckSubject<Context, Model> {
  /** Binds what the application binds for a model, such as its context, so that the plugin's services can be built. */
  bind?(containers: { engine: EngineContainer; model: ModelContainer }, context: Context): void | Promise<void>;
}

/**
 * Two registries and two models in one process hold no module, parameter, buffer or service of this plugin in common. Constants that are frozen may be
 * shared. A service that cannot be built here (its device is elsewhere) is named in the detail.
 * @throws CheckSharedError, and what loading, building and the init hooks throw.
 */
export async function checkCopiesShareNothing<Context, Model extends InspectableModel>(
  subject: CopiesSubject<Context, Model>,
): Promise<CheckOutcome> {
  await using first = await copy(subject);
  await using second = await copy(subject);
  const modules = sharedParts(first, second);
  const services = [...first.services].filter(([name, value]) => isShareable(value) && second.services.get(name) === value);
  const shared = [...modules, ...services.map(([name]) => `the service ${name}`)];
  if (shared.length > 0) throw new CheckSharedError(subject.plugin.name, subject, shared);
  const unbuilt = first.unbuilt.length === 0 ? '' : `; not built: ${first.unbuilt.join(', ')}`;
  return { outcome: 'held', detail: `${first.parts.size} modules and parameters, ${first.services.size} services${unbuilt}` };
}

interface Copy extends AsyncDisposable {
  /** Modules, parameters and buffers, each with its path. */
  readonly parts: ReadonlyMap<object, string>;
  readonly services: ReadonlyMap<string, unknown>;
  readonly unbuilt: readonly string[];
}

async function copy<Context, Model extends InspectableModel>(subject: CopiesSubject<Context, Model>): Promise<Copy> {
  const { plugins, build } = await loadSubject(subject);
  const { model, context, runner } = build();
  await runner.run('init', model, context);
  const engine = plugins.createEngineContainer({ platform: subject.platform });
  const ofModel = engine.createModelContainer();
  await subject.bind?.({ engine, model: ofModel }, context);
  const services = new Map<string, unknown>();
  const unbuilt: string[] = [];
  const bindings = plugins.plugins.find(({ plugin }) => plugin === subject.plugin)!.bindings;
  for (const { token, name, scope } of bindings) {
    const container = scope === 'engine' ? engine : ofModel;
    if (!container.has(token)) continue;
    await container.getAsync(token).then(
      (service) => services.set(name, service),
      (error: unknown) => unbuilt.push(`${name} (${messageOf(error).split('\n', 1)[0]!})`),
    );
  }
  return {
    parts: partsOf(model),
    services,
    unbuilt,
    async [Symbol.asyncDispose]() {
      await ofModel[Symbol.asyncDispose]();
      await engine[Symbol.asyncDispose]();
    },
  };
}

/** Lent modules too: they are no part of the tree, and are shared all the same if they are. */
function partsOf(model: InspectableModel): Map<object, string> {
  const parts = new Map<object, string>();
  for (const [object, path] of new ObjectState(model).objects()) {
    if (typeof (object as Partial<InspectableModel>).namedParameters === 'function') parts.set(object, path || 'the model');
  }
  for (const [name, facts] of [...model.namedParameters(), ...model.namedBuffers()]) parts.set(facts, name);
  return parts;
}

function sharedParts(first: Copy, second: Copy): string[] {
  return [...first.parts].filter(([object]) => second.parts.has(object)).map(([object, path]) => `${path} (${object.constructor.name})`);
}

function isShareable(value: unknown): boolean {
  return ((typeof value === 'object' && value !== null) || typeof value === 'function') && !Object.isFrozen(value);
}
