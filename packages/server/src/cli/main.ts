import { Writable } from 'node:stream';
import { UncaughtError } from '@graft/common';
import { graftVersion } from '@graft/engine/starter';
import { Argument, Command, CommanderError, InvalidArgumentError, Option } from 'commander';
import { parseImageHost } from '../images/image-host.ts';
import type { ChatOptions } from './chat.ts';
import type { Shell } from './completion.ts';
import { type Environment, readEnvironment, splitList } from './config.ts';
import type { ContractOptions, ExplainOptions, GraphsOptions } from './explain.ts';
import { addEngineFlags, type EngineKey, UsageError, wholeNumber } from './flags.ts';
import { refuseNpmFlags } from './npm-flags.ts';
import type { ServeOptions } from './serve.ts';
import { describeFailure, StoppedError, type Terminal } from './terminal.ts';
import type { VerifyOptions } from './verify.ts';

/**
 * Runs the `graft` command line to its end.
 * @param args without node and the script.
 * @returns the exit code, after any error was printed. 0: done; 1: a comparison found a difference; 2: an error; 130 and 143: stopped by a signal.
 */
export async function runCli(args: string[], terminal: Terminal = process): Promise<number> {
  const asJson = args.includes('--json');
  const { stdin, stdout } = terminal;
  const stderr = asJson ? new Writable({ write: (_chunk, _encoding, done) => done() }) : terminal.stderr;
  const environment = readEnvironment();
  let code = 0;
  const root = program(environment, { stdin, stdout, stderr }, (verdict) => void (code = verdict));
  try {
    refuseNpmFlags(root, args, environment);
    await orUncaught(root.parseAsync(args, { from: 'user' }));
    return code;
  } catch (error) {
    if (error instanceof StoppedError) return error.exitCode;
    if (!(error instanceof CommanderError)) terminal.stderr.write(describeFailure(error, asJson));
    else if (error.exitCode === 0) return 0;
    else if (asJson) terminal.stderr.write(describeFailure(new UsageError(error.message.replace(/^error: /, ''), 'graft'), asJson));
    return 2;
  }
}

/** The command, or the first error that reached no caller: a plugin may throw in a timer, or not await a promise. */
async function orUncaught(command: Promise<unknown>): Promise<void> {
  let onUncaught = (_error: unknown): void => undefined;
  const uncaught = new Promise<never>((_, reject) => {
    onUncaught = (error) => reject(UncaughtError.of(error));
  });
  process.on('uncaughtException', onUncaught);
  try {
    await Promise.race([command, uncaught]);
  } finally {
    process.off('uncaughtException', onUncaught);
  }
}

/** Each command imports its own code, so that none waits for that of the others. */
function program(environment: Environment, terminal: Terminal, exitWith: (code: number) => void): Command {
  const root = new Command('graft')
    .description('Serves a model, and tells which class serves it and why.')
    .version(graftVersion)
    .exitOverride()
    .configureOutput({ writeOut: (text) => terminal.stdout.write(text), writeErr: (text) => terminal.stderr.write(text) })
    .showHelpAfterError('(graft --help lists the commands and flags)')
    .addHelpText(
      'after',
      '\nExit codes: 0 done; 1 a comparison found a difference; 2 an error; 3 ggml ended the process; 130 or 143 stopped by SIGINT or SIGTERM.',
    );
  const building = [...modelFlags, ...pluginFlags];
  type Printed = { json?: boolean };
  addEngineFlags(serveCommand(root)).action(async (model: string | undefined, options: ServeOptions) =>
    (await import('./serve.ts')).serve({ model, ...options }, environment, terminal),
  );
  addEngineFlags(chatCommand(root)).action(async (model: string | undefined, options: ChatOptions) =>
    (await import('./chat.ts')).chat({ model, ...options }, environment, terminal),
  );
  const explaining = () => import('./explain.ts');
  addEngineFlags(explainCommand(root), [...building, 'platformOptions', 'threads', 'weights', 'cacheDirectory']).action(
    async (architectures: string[], options: ExplainOptions) => (await explaining()).explain(architectures, options, environment, terminal),
  );
  addEngineFlags(listCommand(root), pluginFlags).action(async (options: Printed) =>
    (await explaining()).list(options, environment, terminal),
  );
  addEngineFlags(contractCommand(root), ['model', ...pluginFlags]).action(async (name: string, options: ContractOptions) =>
    exitWith(await (await explaining()).contract(name, options, environment, terminal)),
  );
  addEngineFlags(graphsCommand(root), building).action(async (options: GraphsOptions) =>
    (await explaining()).graphs(options, environment, terminal),
  );
  addEngineFlags(verifyCommand(root), [...building, 'platformOptions', 'threads', 'cacheDirectory']).action(
    async (architecture: string | undefined, options: VerifyOptions) =>
      exitWith(await (await import('./verify.ts')).verify(architecture, options, environment, terminal)),
  );
  newCommand(root).action(async (kind: string, name: string, options: Printed) =>
    (await import('./new.ts')).newProject(kind, name, options, terminal),
  );
  const keeping = () => import('./models.ts');
  pullCommand(root).action(async (name: string, options: Printed) => (await keeping()).pull(name, options, environment, terminal));
  modelsCommand(root).action(async (options: Printed & { model?: string[] }) => (await keeping()).models(options, environment, terminal));
  removeCommand(root).action(async (name: string, options: Printed) => (await keeping()).remove(name, options, environment, terminal));
  const completing = () => import('./completion.ts');
  const write = (text: string) => void terminal.stdout.write(text);
  completionCommand(root).action(async (shell: Shell) => write((await completing()).completionScript(shell)));
  const complete = root.command('complete', { hidden: true }).argument('[words...]');
  complete.action(async (words: string[]) => write((await completing()).completionsOf(root, words)));
  return root;
}

const pluginFlags: EngineKey[] = ['app', 'plugins', 'allowPlugins'];
/** The flags of commands that build a model from its config. */
const modelFlags: EngineKey[] = [
  'model',
  'platform',
  'mode',
  'architecture',
  'images',
  'configOverrides',
  'overrideOptions',
  'without',
  'requireOverride',
];

function serveCommand(root: Command): Command {
  return root
    .command('serve')
    .argument('[model]', 'The same as --model.')
    .description('Serves a model over the OpenAI-compatible API, with a chat page at /. Without --model: SmolLM2, downloaded once.')
    .option('--host <address>', 'The address to listen on.', '127.0.0.1')
    .option('--port <number>', 'The port; 0 takes any free one.', portNumber, 8000)
    .option('--api-key <key>', 'The key that every request to /v1, /admin and /metrics must bring. Default: none.')
    .option(
      '--enable-reload',
      'Opens POST /admin/reload {"model": "PATH"}, which serves other weights of the same config. Needs --api-key.',
    )
    .option('--allowed-host <name>', 'Another host name to answer to (a DNS name of this machine). May be repeated.', collect)
    .option('--allowed-origin <origin>', "An origin whose pages may call the API (CORS); '*' allows all. May be repeated.", collect)
    .option(
      '--allow-image-host <host>',
      'A host to fetch images from when a request names a URL. Add the port if it is not the usual one. May be repeated. Default: none.',
      collectHost,
    )
    .option('--allow-private-image-hosts', 'Lets these hosts have addresses inside private networks.')
    .addOption(
      new Option('--log-level <level>', 'The log goes to stderr as JSON lines.')
        .choices(['silent', 'fatal', 'error', 'warn', 'info', 'debug', 'trace'])
        .default('warn'),
    )
    .option('--json', 'Prints one line of JSON when the server is ready: url, model, modelClass, platform, mode, device.');
}

function chatCommand(root: Command): Command {
  return root
    .command('chat')
    .argument('[model]', 'The same as --model.')
    .description('A chat with a model in the terminal.')
    .option('--system <text>', 'A system prompt.')
    .option('--temperature <number>', "0 is greedy. Default: the model's own, else 0.7.", temperature)
    .option('--max-tokens <number>', 'The most tokens of an answer. Default: the rest of the context.', wholeNumber)
    .option('--seed <number>', 'Makes sampled answers repeatable.', wholeNumber)
    .option('--json', 'Prints each answer as one line of JSON: content, finishReason, stopReason, usage.');
}

function explainCommand(root: Command): Command {
  return root
    .command('explain')
    .description('Tells which class would run an architecture here, and why. Reads no weights.')
    .argument(
      '[architecture...]',
      "e.g. Llama4ForCausalLM. Several are tried in order, as in config.json. Default: the architectures in --model's config.",
    )
    .option('--services', 'Prints the services of an engine instead: who binds each one, which binding serves, and where it is injected.')
    .option('--patches', 'Adds the changes that the hooks make to the model of --model. It is built from its config, without weights.')
    .option('--json', 'Prints the record behind the text.');
}

function listCommand(root: Command): Command {
  return root
    .command('list')
    .description('Lists the loaded plugins with their platforms, architectures, layers, overrides, hooks and services.')
    .option('--json', 'Prints the record behind the text.');
}

function contractCommand(root: Command): Command {
  return root
    .command('contract')
    .description('Prints the parts of an upstream class that an override may rely on, to paste into its `reliesOn`. Reads no weights.')
    .argument(
      '<name>',
      'A class, e.g. Llama4ForCausalLM, or a part of a model such as Llama4Attention; with --against, a loaded plugin by name, package or path.',
    )
    .option(
      '--against <path>',
      'Compares what the plugin relies on with another version of an upstream package: its folder, or the .tgz of npm pack.',
    )
    .option('--json', 'Prints the record behind the text.');
}

function graphsCommand(root: Command): Command {
  return root
    .command('graphs')
    .description('Counts the graphs that a model will capture, with reasons. Reads no weights and compiles nothing.')
    .option('--buckets <list>', 'Static shapes, sequences x tokens, e.g. 1x128,8x1. Default: one capture for any shape.')
    .option('--why <layers>', 'Two layers, e.g. 3,4. Prints the guards in which they differ.')
    .option('--json', 'Prints the record behind the text.');
}

function verifyCommand(root: Command): Command {
  return root
    .command('verify')
    .description('Compares an override with its upstream on the same weights, in float32: layers, logits, greedy tokens.')
    .argument(
      '[architecture]',
      'e.g. Llama4ForCausalLM, with random weights for a small config. Default: the architecture of --model or --config.',
    )
    .option('--config <file>', 'A config.json, for random weights.')
    .option('--seed <number>', 'The seed of random weights.', wholeNumber, 1)
    .option(
      '--tolerance <number>',
      'The largest difference, relative to the largest value of the same token in that layer (or to 1 if that is larger).',
      tolerance,
      1e-4,
    )
    .option('--prompt <text>', "A prompt for the model's tokenizer. Default: 20 token ids.")
    .option('--prompt-ids <list>', 'A prompt as token ids, e.g. 1,15,7.', tokenIds)
    .option('--max-tokens <number>', 'Tokens after the prompt.', positive, 16)
    .option('--ops', "Compares each lowering of --platform's backend with the interpreter instead, within the tolerance that it declares.")
    .option('--json', 'Prints the record behind the table.');
}

function newCommand(root: Command): Command {
  return root
    .command('new')
    .description('Writes a project that builds and passes its own tests, in a new folder.')
    .addArgument(
      new Argument('<kind>', 'An override, a platform with its backend, or an architecture.').choices(['plugin', 'backend', 'model']),
    )
    .argument('<name>', "The package's name, e.g. my-plugin.")
    .option('--json', 'Prints the record behind the text.');
}

const hubName = 'hf:ORG/REPO[:QUANT or FILE][@REVISION]';

function pullCommand(root: Command): Command {
  return root
    .command('pull')
    .description("Downloads a model of the Hugging Face hub into the hub's own cache (HF_HOME), or completes it; prints its path.")
    .argument('<name>', `${hubName}; --model takes the same.`)
    .option('--json', 'Prints the record behind the text.');
}

function modelsCommand(root: Command): Command {
  return root
    .command('models')
    .description('Lists the models in the cache, with size, architecture and types of weights.')
    .option('--model <path>', 'Also the model at a path. May be repeated.', collect)
    .option('--json', 'Prints the record behind the table.');
}

function removeCommand(root: Command): Command {
  return root
    .command('rm')
    .description('Removes a model from the cache.')
    .argument('<name>', `${hubName}. Without QUANT, all of the repository; without REVISION, all revisions.`)
    .option('--json', 'Prints the record behind the text.');
}

function completionCommand(root: Command): Command {
  return root
    .command('completion')
    .description('Prints a script that completes commands, flags, choices and paths: source <(graft completion bash).')
    .addArgument(new Argument('<shell>', 'Which shell sources it.').choices(['bash', 'zsh', 'fish']));
}

function collect(value: string, previous: string[] = []): string[] {
  return [...previous, value];
}

function collectHost(value: string, previous?: string[]): string[] {
  if (parseImageHost(value) === null)
    throw new InvalidArgumentError(
      'Give a host alone, such as images.example.com or images.example.com:8080. Repeat the flag for each host.',
    );
  return collect(value, previous);
}

/** A parser of numbers in a range. */
function inRange(read: (text: string) => number, min: number, max: number, refusal: string) {
  return (text: string): number => {
    const value = read(text);
    if (value >= min && value <= max) return value;
    throw new InvalidArgumentError(refusal);
  };
}

const anyNumber = (text: string): number => (text.trim() === '' ? Number.NaN : Number(text));
const portNumber = inRange(wholeNumber, 0, 65_535, 'A port is between 0 and 65535.');
const positive = inRange(wholeNumber, 1, Number.POSITIVE_INFINITY, 'It must be at least 1.');
const tolerance = inRange(anyNumber, 0, Number.MAX_VALUE, 'It must be a number of 0 or more, such as 1e-5.');
const temperature = inRange(anyNumber, 0, 2, 'It must be between 0 and 2.');

function tokenIds(text: string): number[] {
  return splitList(text).map(wholeNumber);
}
