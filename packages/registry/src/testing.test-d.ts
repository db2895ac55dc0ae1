// The testing kit's types, held by the compiler: `npm test -- types`.
import { type BufferFacts, definePlugin, type ParameterFacts } from './index.ts';
import { type CheckTarget, checkPlugin, type PluginReport, type ReloadSubject } from './testing.ts';

const plugin = definePlugin({ name: 'checked' });
class Context {
  readonly layers: number = 1;
}
interface Model {
  namedParameters(): Iterable<[string, ParameterFacts]>;
  namedBuffers(): Iterable<[string, BufferFacts]>;
  fill(value: number): void;
}
interface Engine {
  logits(): Promise<Float32Array>;
  swap(checkpoint: string): Promise<void>;
}
declare const start: (checkpoint: string) => Promise<Engine>;

const reload = {
  checkpoints: ['a', 'b'] as const,
  load: start,
  reload: (engine: Engine, checkpoint: string) => engine.swap(checkpoint),
  outputs: (engine: Engine) => engine.logits(), // a typed array is an iterable of numbers: no tensors here
};

export const report: Promise<PluginReport> = checkPlugin<Context, Model, Engine>(plugin, {
  context: (target: CheckTarget) => (target.mode === 'eager' ? new Context() : new Context()),
  load: (model, context) => model.fill(context.layers),
  bind: ({ engine, model }) => void [engine.has, model.has],
  reload: ({ architecture }) => (architecture === 'Llama' ? reload : null),
});

// @ts-expect-error: a context is needed to build a model
void checkPlugin(plugin, {});
// @ts-expect-error: a context of another type
void checkPlugin<Context, Model>(plugin, { context: () => ({ layers: 'two' }) });
// @ts-expect-error: a declaration is not a plugin
void checkPlugin({ name: 'declared' }, { context: () => new Context() });

const subject: ReloadSubject<Engine> = reload;
// @ts-expect-error: one checkpoint would show nothing
export const one: ReloadSubject<Engine> = { ...subject, checkpoints: ['a'] };
// @ts-expect-error: outputs are numbers
export const words: ReloadSubject<Engine> = { ...subject, outputs: async () => ['a'] };
