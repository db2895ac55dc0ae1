// The mistakes of a plugin's author. Each is a change of mistakes/right.ts, and the right plugin is its fix. mistakes.md has the text that the author sees.
import { cpSync, mkdirSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { EventBus } from '@graft/common';
import { type EngineEvents, LlmEngine } from '@graft/engine';
import { afterAll, describe, expect, test } from 'vitest';
import { here, model } from './continue-prompt.fixture.ts';

const right = readFileSync(join(here, 'mistakes/right.ts'), 'utf8');
const base = mkdtempSync(join(tmpdir(), 'graft-mistakes-'));
afterAll(() => rmSync(base, { recursive: true }));

/** An application with a plugin, as its author has it. */
interface Application {
  plugin?: string;
  /** Other files, by name. */
  files?: Record<string, string>;
  /** Keys of its package.json. */
  package?: object;
  plugins?: string[];
  options?: object;
}

let count = 0;

/** Starts an engine in a new folder. @returns the code, and the text with the folder's path left out. */
async function start({ plugin = right, files = {}, package: keys, plugins = ['./plugin.ts'], options = {} }: Application) {
  const folder = join(base, `app-${++count}`);
  mkdirSync(join(folder, 'node_modules'), { recursive: true });
  symlinkSync(join(here, 'node_modules/@graft'), join(folder, 'node_modules/@graft'));
  cpSync(join(here, 'interpreter-cpu.ts'), join(folder, 'interpreter-cpu.ts'));
  const listed = { graft: { plugins: ['./interpreter-cpu.ts', ...plugins] } };
  const all = { 'package.json': JSON.stringify({ type: 'module', ...(keys ?? listed) }), 'plugin.ts': plugin, ...files };
  for (const [name, text] of Object.entries(all)) {
    mkdirSync(dirname(join(folder, name)), { recursive: true });
    writeFileSync(join(folder, name), text);
  }
  const events = new EventBus<EngineEvents>();
  const warnings: string[] = [];
  events.on('load:warning', ({ message }) => warnings.push(message));
  const cacheDirectory = join(base, 'cache');
  const started = LlmEngine.start({ model, app: folder, platform: 'cpu', weights: 'float32', cacheDirectory, ...options }, { events });
  const { code, text, info } = await started.then(
    async (engine) => {
      await engine.close();
      return { code: null, text: warnings.join('\n'), info: engine.info };
    },
    (error: { code: string }) => ({ code: error.code, text: String(error), info: null }),
  );
  const shown = text
    .replace(new RegExp(`(file://)?${folder}/`, 'g'), '')
    .replaceAll(folder, '.')
    .replace(/__vite_ssr_import_\d+__\./g, '');
  return { code, text: shown, info };
}

interface Mistake extends Omit<Application, 'plugin'> {
  /** In the right plugin, and in its place. */
  change?: [right: string, wrong: string];
  /** Null: the engine starts with a warning. */
  code: `GRAFT_${string}` | null;
  /** The words that lead to the fix. */
  says: string;
}

const signature = 'override computeLogits(hiddenStates: Tensor): Tensor {';
const lazyModel = 'model: async () => MyModel';
const logits = 'return super.computeLogits(hiddenStates)';
const bound = 'bind(Backend).to(InterpreterBackend);';
const onNpu = { options: { platform: 'npu' } };
const second = (name: string, overrides = '') =>
  `import { Llama4ForCausalLM } from '@graft/core-model';
import { definePlugin } from '@graft/registry';
class Other extends Llama4ForCausalLM {}
export default definePlugin({ name: '${name}', after: ['core-model'], ${overrides} });`;

const mistakes: Record<string, Mistake> = {
  // package.json and modules
  'a typo in a key of "graft"': {
    package: { graft: { plugin: ['./plugin.ts'] } },
    code: 'GRAFT_PACKAGE_INVALID',
    says: 'did you mean "plugins"',
  },
  'a typo in "graft"': {
    package: { grafts: { plugins: ['./plugin.ts'] } },
    code: 'GRAFT_PACKAGE_INVALID',
    says: 'its key "grafts" is near "graft"',
  },
  'a path without "./"': { plugins: ['plugin.ts'], code: 'GRAFT_PLUGIN_NOT_FOUND', says: 'write "./plugin.ts"' },
  'a misspelt path': { plugins: ['./plugn.ts'], code: 'GRAFT_PLUGIN_NOT_FOUND', says: 'in that folder: "plugin.ts"' },
  'a folder as the path': {
    plugins: ['./src'],
    files: { 'src/index.ts': second('mine') },
    code: 'GRAFT_PLUGIN_NOT_FOUND',
    says: 'write "./src/index.ts"',
  },
  'a typo in the name of an installed package': { plugins: ['@graft/cup'], code: 'GRAFT_PLUGIN_NOT_FOUND', says: 'write "@graft/cpu"' },
  'a path in place of a list of paths': {
    package: { graft: { plugins: './plugin.ts' } },
    code: 'GRAFT_PACKAGE_INVALID',
    says: 'write ["./plugin.ts"]',
  },
  'a folder of the application that does not exist': {
    options: { app: '/nowhere' },
    code: 'GRAFT_APP_NOT_FOUND',
    says: 'correct the path in --app',
  },
  'a plugin built against another Graft': {
    change: ["graft: '^0.1.0'", "graft: '^9.0.0'"],
    code: 'GRAFT_PLUGIN_VERSION',
    says: 'works with Graft ^9.0.0, and this is Graft 0.',
  },
  'a package with a peer of another Graft': {
    package: { peerDependencies: { '@graft/registry': '^9.0.0' }, graft: { plugins: ['./interpreter-cpu.ts', './plugin.ts'] } },
    code: 'GRAFT_PLUGIN_VERSION',
    says: 'lists the peer @graft/registry ^9.0.0',
  },
  'a named export': {
    change: ['export default definePlugin', 'export const plugin = definePlugin'],
    code: 'GRAFT_NOT_A_PLUGIN',
    says: 'its export "plugin" is one',
  },
  'a plain object as the default export': {
    change: ['export default definePlugin({', 'export default ({'],
    code: 'GRAFT_NOT_A_PLUGIN',
    says: 'write `export default definePlugin({ ... })`',
  },
  'two plugins of one name': {
    plugins: ['./plugin.ts', './second.ts'],
    files: { 'second.ts': second('mine') },
    code: 'GRAFT_PLUGIN_DUPLICATE',
    says: 'rename one',
  },
  'a typo in "after"': {
    change: ["after: ['core-model']", "after: ['core-modle']"],
    code: 'GRAFT_PLUGIN_MISSING',
    says: 'write "core-model"',
  },
  'the name of a package in "after"': {
    change: ["after: ['core-model']", "after: ['@graft/core-model']"],
    code: 'GRAFT_PLUGIN_MISSING',
    says: 'write "core-model"',
  },
  'a plugin without a name': { change: ["name: 'mine',", ''], code: 'GRAFT_PLUGIN_INVALID', says: 'name: ' },
  'an import from a package that is not installed': {
    change: ["'@graft/graph'", "'@graft/graphs'"],
    code: 'GRAFT_MODULE_FAILED',
    says: '@graft/graphs',
  },

  // overrides
  'override: for overrides:': { change: ['overrides: [', 'override: ['], code: 'GRAFT_PLUGIN_INVALID', says: 'did you mean "overrides"' },
  'a class where a function is wanted': {
    change: [lazyModel, 'model: MyModel'],
    code: 'GRAFT_NOT_A_MODEL_CLASS',
    says: 'give a function: `async () => MyModel`',
  },
  'a promise where a function is wanted': {
    change: [lazyModel, 'model: Promise.resolve(MyModel)'],
    code: 'GRAFT_PLUGIN_INVALID',
    says: 'must be a function, not a promise',
  },
  'a module where its class is wanted': {
    change: [lazyModel, 'model: async () => ({ MyModel })'],
    code: 'GRAFT_NOT_A_MODEL_CLASS',
    says: 'then((m) => m.MyModel)',
  },
  'the name of an export that does not exist': {
    change: [lazyModel, "model: async () => ({ MyModel } as Record<string, never>)['MyModle']!"],
    code: 'GRAFT_NOT_A_MODEL_CLASS',
    says: 'check the name of the export',
  },
  'a class factory that is not asynchronous': {
    change: ['model: async () => MyNorm', 'factory: (Base) => class extends Base {}'],
    code: 'GRAFT_NOT_A_MODEL_CLASS',
    says: '`async () => (Base) => class extends Base {}`',
  },
  'a class factory as the model': {
    change: ['model: async () => MyNorm', 'model: async () => (Base) => class extends Base {}'],
    code: 'GRAFT_NOT_A_MODEL_CLASS',
    says: 'write `factory` in place of `model`',
  },
  'a class factory that returns nothing': {
    change: ['model: async () => MyNorm', 'factory: async () => (Base) => { class Mine extends Base {} }'],
    code: 'GRAFT_FACTORY_FAILED',
    says: 'returned undefined for RmsNorm',
  },
  'an override of a class of the plugin': {
    change: ["of: 'RmsNorm', platform: 'cpu', priority", "of: 'Base', platform: 'cpu', priority"],
    code: 'GRAFT_OVERRIDE_WITHOUT_UPSTREAM',
    says: 'correct the name, or list the plugin',
  },
  'a typo in the name of the class': {
    change: ["of: 'Llama4ForCausalLM'", "of: 'Llama4ForCausalLLM'"],
    code: 'GRAFT_OVERRIDE_WITHOUT_UPSTREAM',
    says: 'nearest: "Llama4ForCausalLM"',
  },
  'a typo in the scope': {
    change: ['priority: 1', "priority: 1, within: ['Lama4ForCausalLM']"],
    code: 'GRAFT_OVERRIDE_WITHOUT_UPSTREAM',
    says: 'nearest: "Llama4ForCausalLM"',
  },
  'a scope that is no list': {
    change: ['priority: 1', "priority: 1, within: 'Llama4ForCausalLM'"],
    code: 'GRAFT_PLUGIN_INVALID',
    says: 'write ["Llama4ForCausalLM"]',
  },
  'a wrong base': {
    change: ['class MyNorm extends RmsNorm', 'class MyNorm'],
    code: 'GRAFT_OVERRIDE_BASE',
    says: 'write `class MyNorm extends RmsNorm`',
  },
  'a priority in words': {
    change: ['priority: 1', "priority: 'high'"],
    code: 'GRAFT_PLUGIN_INVALID',
    says: 'overrides.1.priority: Invalid input: expected number',
  },
  'one override twice': {
    change: [
      'model: async () => MyNorm },',
      "model: async () => MyNorm }, { of: 'RmsNorm', platform: 'cpu', priority: 1, model: async () => MyNorm },",
    ],
    code: 'GRAFT_REGISTRATION_CONFLICT',
    says: 'or take one out',
  },
  'two plugins that override one class': {
    plugins: ['./plugin.ts', './second.ts'],
    files: { 'second.ts': second('second', "overrides: [{ of: 'Llama4ForCausalLM', platform: 'cpu', model: async () => Other }]") },
    code: 'GRAFT_REGISTRATION_CONFLICT',
    says: 'give one of them a higher priority',
  },
  'a broken contract': {
    change: ["methods: ['computeLogits(hiddenStates)']", "methods: ['computeLogit']"],
    code: 'GRAFT_CONTRACT_BROKEN',
    says: 'now there is "computeLogits"',
  },
  'a platform that no plugin has': {
    change: ["of: 'RmsNorm', platform: 'cpu'", "of: 'RmsNorm', platform: 'cpuu'"],
    code: null,
    says: 'on platform "cpuu", which no loaded plugin brings (nearest: "cpu")',
  },
  'an override option that nobody reads': {
    options: { overrideOptions: { capp: 20 } },
    code: 'GRAFT_ENGINE_CONFIG',
    says: 'write "cap", which was read',
  },

  'an option of a platform that has none': {
    options: { platformOptions: { buckets: 1 } },
    code: 'GRAFT_ENGINE_CONFIG',
    says: 'Platform "cpu" has no options, but "buckets" is given',
  },

  // classes
  'a constructor without its call of super': {
    change: ['super(context);', ''],
    code: 'GRAFT_CONSTRUCTION_FAILED',
    says: 'pass all parameters on first: `super(...)`',
  },
  'a constructor that throws': {
    change: ['super(context);', "super(context); throw new Error('no kernel');"],
    code: 'GRAFT_CONSTRUCTION_FAILED',
    says: 'correct the constructor',
  },
  'a part that new builds': {
    change: ['super(context);', 'super(context); this.model.norm = new RmsNorm(context.config.hiddenSize, 1e-5);'],
    code: null,
    says: 'Write `build(RmsNorm, ...)`',
  },
  'an op in the constructor': {
    change: ['super(context);', 'super(context); ops.constant({}, { value: 1 });'],
    code: 'GRAFT_NOT_CAPTURING',
    says: 'call ops in forward, or in a method that forward calls',
  },
  'an arrow function in a field': {
    change: [signature, `half = (x: Tensor) => x.div(2);\n  ${signature}\n    hiddenStates = this.half(hiddenStates);`],
    code: 'GRAFT_CAPTURE_ARROW_FIELD',
    says: 'make it a method of the class',
  },
  'a method without a return': {
    change: ['return [this.forward(sum), sum];', 'this.forward(sum);'],
    code: 'GRAFT_FORWARD_FAILED',
    says: 'MyNorm.forwardWithResidual returned undefined just before: return its result',
  },
  'a tensor where the base class returns a list': {
    change: ['return [this.forward(sum), sum];', 'return this.forward(sum) as never;'],
    code: 'GRAFT_MODEL_OUTPUT',
    says: 'return a list there, as the base class does',
  },
  'a list where the base class returns a tensor': {
    change: ['return [this.forward(sum), sum];', 'return [[this.forward(sum)] as never, sum];'],
    code: 'GRAFT_OP_INPUT',
    says: 'Input "x" is a list of 1, which MyNorm.forwardWithResidual at model.layers.0.input_layernorm returned; expected a tensor',
  },
  'a result of another element type': {
    change: ['return [this.forward(sum), sum];', "return [this.forward(sum).cast('int64'), sum];"],
    code: 'GRAFT_OP_INPUT',
    says: 'which MyNorm.forwardWithResidual at model.layers.0.input_layernorm returned; expected float32.',
  },
  'a typo in the name of an op': {
    change: ['this.forward(sum), sum', '(ops as never as { rmsNrom(inputs: object): Tensor }).rmsNrom({ x: sum }), sum'],
    code: 'GRAFT_FORWARD_FAILED',
    says: 'write ops.rmsNorm at plugin.ts:26:',
  },
  'a method that tensors do not have': {
    change: ['this.forward(sum), sum', '(sum as never as { multiply(by: number): Tensor }).multiply(2), sum'],
    code: 'GRAFT_FORWARD_FAILED',
    says: 'write sum.mul at plugin.ts:26:',
  },
  'a typo in an attribute of an op': {
    change: ['this.forward(sum), sum', 'ops.mulScalar({ x: sum }, { valu: 2 } as never), sum'],
    code: 'GRAFT_OP_INPUT',
    says: 'did you mean "value"',
  },
  'an attribute of an op that is missing': {
    change: ['this.forward(sum), sum', 'ops.mulScalar({ x: sum }, {} as never), sum'],
    code: 'GRAFT_OP_INPUT',
    says: 'the attributes are "value"',
  },
  'an asynchronous method': {
    change: ['override forwardWithResidual', 'override async forwardWithResidual'],
    code: 'GRAFT_MODEL_OUTPUT',
    says: 'No method that forward calls can be async',
  },
  'an assignment to a field in forward': {
    change: [logits, `(this as never as { last: unknown }).last = hiddenStates; ${logits}`],
    code: 'GRAFT_CAPTURE_ASSIGNMENT',
    says: 'use a local variable',
  },
  "an assignment to a tensor's dimensions": {
    change: [logits, `(hiddenStates.dims as unknown[])[1] = 3; ${logits}`],
    code: 'GRAFT_FORWARD_FAILED',
    says: 'Cannot assign to read only property',
  },
  'an operator on a tensor': {
    change: [`${logits}.div(this.cap).tanh().mul(this.cap);`, `${logits} / this.cap;`],
    code: 'GRAFT_TENSOR_COERCED',
    says: 'use ops or methods of tensors, such as x.mul(2)',
  },
  'a comparison of a dimension': {
    change: [logits, `if (hiddenStates.dim(0) > 1) ${logits}; ${logits}`],
    code: 'GRAFT_DIM_COERCED',
    says: 'use dim.equals(n)',
  },
  'a private field': {
    change: [signature, `#half = 0.5;\n  ${signature}\n    hiddenStates = hiddenStates.mul(this.#half);`],
    code: 'GRAFT_CAPTURE_PRIVATE_FIELD',
    says: `declare the member with TypeScript's "private"`,
  },

  // hooks
  'reliesOn on a hook': {
    change: ["phase: 'init',", "phase: 'init', reliesOn: { methods: ['forward'] },"],
    code: 'GRAFT_PLUGIN_INVALID',
    says: 'it is a key of "overrides"',
  },
  'a misspelt method in replaceMethod': {
    change: ["norm, 'forward'", "norm, 'foward'"],
    code: 'GRAFT_HOOK_FAILED',
    says: 'write "forward"',
  },
  'a misspelt child in wrapChild': {
    change: [
      'prepare(): void {}',
      'prepare(patches: Patches): void { patches.wrapChild(this.model.layers[0]!, "input_layer_norm", (norm: object) => norm); }',
    ],
    code: 'GRAFT_HOOK_FAILED',
    says: 'write "input_layernorm"',
  },
  'an arrow function in replaceMethod': {
    change: ["norm, 'forward', forward", "norm, 'forward', (x: Tensor) => x"],
    code: 'GRAFT_HOOK_FAILED',
    says: 'write `function forward(...) { ... }`',
  },
  'an asynchronous function in replaceMethod': {
    change: ['function forward(', 'async function forward('],
    code: 'GRAFT_HOOK_FAILED',
    says: 'kind AsyncFunction',
  },
  'a decorator without parentheses': {
    change: ['@InitHook()', '@InitHook'],
    code: 'GRAFT_HOOK_TARGET',
    says: 'prepare cannot be a hook: its decorator has no parentheses',
  },
  'a typo in an option of a decorator': {
    change: ['@InitHook()', "@InitHook({ mode: ['full'] } as object)"],
    code: 'GRAFT_HOOK_TARGET',
    says: 'did you mean "modes"',
  },
  'a typo in the mode of a decorator': {
    change: ['@InitHook()', "@InitHook({ modes: ['fulll'] })"],
    code: 'GRAFT_TARGET_MODE',
    says: 'use "full"',
  },
  'a typo in the phase': {
    change: ["phase: 'init'", "phase: 'int'"],
    code: 'GRAFT_PLUGIN_INVALID',
    says: 'expected one of "init"|"postLoad"',
  },
  'a hook that reads weights before they are loaded': {
    change: ['prepare(): void {}', 'prepare(): void { this.model.norm!.weight.toFloat32(); }'],
    code: 'GRAFT_HOOK_FAILED',
    says: 'a hook reads values in phase postLoad',
  },
  'a hook that renames a parameter': {
    change: [
      'prepare(): void {}',
      'prepare(): void { Object.assign(this.model, { scale: this.model.norm }); Reflect.deleteProperty(this.model, "norm"); }',
    ],
    code: 'GRAFT_HOOK_CHANGED_PARAMETERS',
    says: 'rename in postLoad',
  },
  "an assignment to a parameter's shape": {
    change: ['prepare(): void {}', 'prepare(): void { (this.model.norm!.weight.shape as number[])[0] = 3; }'],
    code: 'GRAFT_HOOK_FAILED',
    says: 'Cannot assign to read only property',
  },

  // platforms and services
  'a detector that answers true': {
    change: ["detect: () => 'emulated'", 'detect: () => true'],
    ...onNpu,
    code: 'GRAFT_PLATFORM_ANSWER',
    says: 'answer "device", "emulated" or "absent"',
  },
  'a detector that throws': {
    change: ["detect: () => 'emulated'", "detect: () => { throw new Error('cannot read /sys/class/npu'); }"],
    ...onNpu,
    code: 'GRAFT_PLATFORM_UNAVAILABLE',
    says: 'cannot read /sys/class/npu',
  },
  'a token that does not exist': {
    change: ['bind(Backend)', '// @ts-expect-error: undefined\n    bind(({} as Record<string, never>).BackendOf)'],
    code: 'GRAFT_TOKEN_INVALID',
    says: 'check the name of its import',
  },
  'the name of a token': { change: ['bind(Backend)', "bind('Backend')"], code: 'GRAFT_TOKEN_INVALID', says: 'import the token "Backend"' },
  'a class in the place of a token': {
    change: ['bind(Backend)', 'bind(InterpreterBackend)'],
    code: 'GRAFT_TOKEN_INVALID',
    says: 'write bind(Token).to(InterpreterBackend)',
  },
  'a token of the same purpose': {
    change: ['bind(Backend)', "bind(token('Backnd'))"],
    ...onNpu,
    code: 'GRAFT_SERVICE_NOT_BOUND',
    says: 'binds another token, named "Backnd": import Backend',
  },
  'a second token of one name': {
    change: [bound, `${bound} bind(token('ModelRunner')).to(InterpreterBackend);`],
    ...onNpu,
    code: 'GRAFT_TOKEN_TWIN',
    says: 'import the token that exists',
  },
  'a service that nobody binds': {
    change: [bound, "bind(Backend).toDynamicValue((services) => services.get(token('KernelCache')));"],
    ...onNpu,
    code: 'GRAFT_SERVICE_NOT_BOUND',
    says: 'bind it in bind() of a plugin',
  },
  'a binding for a platform that no plugin has': {
    change: ['bind(Backend)', "bind(Backend, { platform: 'npuu' })"],
    ...onNpu,
    code: 'GRAFT_SERVICE_NOT_BOUND',
    says: 'for platform "npuu", which no loaded plugin brings',
  },
  'a binding to nothing': {
    change: [bound, 'bind(Backend);'],
    code: 'GRAFT_BINDING_INVALID',
    says: '.to, .toConstantValue or .toDynamicValue must follow',
  },
  'a bind that returns its services': {
    change: [bound, 'return { Backend: InterpreterBackend };'],
    code: 'GRAFT_BINDING_INVALID',
    says: 'call bind(Token).to(...)',
  },
  'a bind that rejects': {
    change: ['bind(bind) {', "async bind(bind) { throw new Error('libnpu.so is not installed');"],
    code: 'GRAFT_PLUGIN_FAILED',
    says: 'libnpu.so is not installed',
  },
};

/** The right plugin with a mistake in it. `token` and `ops` are imported for those that use them. */
function pluginOf([from, to]: [string, string]): string {
  const imported = right
    .replace('InitHook, type', 'InitHook, token, type')
    .replace('InterpreterBackend, type', 'InterpreterBackend, ops, type');
  return imported.replace(from, () => to);
}

describe('a mistake is answered with the fix', () => {
  test.each(Object.entries(mistakes))('%s', async (name, { change, code, says, ...application }) => {
    if (change !== undefined) expect(right).toContain(change[0]);
    const answer = await start({ ...application, ...(change !== undefined && { plugin: pluginOf(change) }) });
    expect(answer.text).toContain(says);
    expect(answer.code).toBe(code);
    texts.set(name, answer.text);
  });
});

const texts = new Map<string, string>();

test('the fix of each mistake starts without a warning, and does what its author wants', async () => {
  const { code, text, info } = await start({ options: { overrideOptions: { cap: 20 } } });
  expect({ code, text }).toEqual({ code: null, text: '' });
  expect(info!.modelClass).toBe('MyModel');
  expect(info!.explanation).toContain('MyNorm replaced 17 instances');
  expect(info!.changes.patches).toMatchObject([{ operation: 'replaceMethod', count: 17 }]);
  expect((await start(onNpu)).code).toBeNull(); // the plugin's own platform and backend
});

test('mistakes.md has the text that the author of each sees', async () => {
  // To bring the page up to date: npx vitest run --project unit examples/first-override/mistakes.test.ts -u
  const sections = Object.entries(mistakes).map(([name, { change }]) => {
    const diff = change === undefined ? '' : `\`\`\`diff\n${lines('-', change[1])}\n${lines('+', change[0])}\n\`\`\`\n\n`;
    return `## ${name}\n\n${diff}\`\`\`\n${texts.get(name)}\n\`\`\`\n`;
  });
  const intro =
    'What an author sees, and the line that fixes it. Made by mistakes.test.ts, which makes each mistake in [right.ts](mistakes/right.ts).';
  await expect(`# Mistakes of a plugin's author\n\n${intro}\n\n${sections.join('\n')}`).toMatchFileSnapshot(join(here, 'mistakes.md'));
});

const lines = (mark: string, text: string): string =>
  text
    .split('\n')
    .map((line) => `${mark} ${line}`)
    .join('\n');
