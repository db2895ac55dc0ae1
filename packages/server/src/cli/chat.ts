import { createInterface, type Interface } from 'node:readline';
import { GraftError } from '@graft/common';
import type { Engine, GenerateRequest, TokenDelta } from '@graft/engine';
import type { Environment } from './config.ts';
import { type EngineStarter, withEngine } from './start-engine.ts';
import { describeFailure, printable, type Terminal } from './terminal.ts';

export interface ChatOptions {
  system?: string;
  /** Default: the model's own, else 0.7. */
  temperature?: number;
  maxTokens?: number;
  seed?: number;
  /** Each answer is one line of JSON. */
  json?: boolean;
  [engineKey: string]: unknown;
}

type Message = { role: 'system' | 'user' | 'assistant'; content: string };

const help = 'Ctrl-C stops an answer; /new starts again; /exit or Ctrl-D leaves.\n';

/** A chat in the terminal, until /exit, the end of the input, or two Ctrl-C in a row. */
export async function chat(options: ChatOptions, environment: Environment, terminal: Terminal, start?: EngineStarter): Promise<void> {
  const warn = (_record: object, message: string) => void terminal.stderr.write(`${message}\n`);
  await withEngine(options, { environment, terminal, warn, start }, (engine, stopped) => converse(engine, options, terminal, stopped));
}

async function converse(engine: Engine, options: ChatOptions, terminal: Terminal, stopped: AbortSignal): Promise<void> {
  const { stdin, stdout } = terminal;
  const isTerminal = stdin.isTTY === true && options.json !== true;
  const lines = createInterface({ input: stdin, output: stdout, terminal: isTerminal, prompt: isTerminal ? '> ' : '' });
  const interrupt = new Interrupt(lines, terminal, stopped);
  if (isTerminal) stdout.write(`${engine.info.model}, served by ${engine.info.modelClass}. ${help}`);
  let messages = opening(options);
  lines.prompt();
  for await (const line of lines) {
    const text = line.trim();
    interrupt.reset();
    if (text === '/exit' || text === '/quit') break;
    if (text === '/new') messages = opening(options);
    else if (text === '/help') stdout.write(help);
    else if (text !== '') messages = await reply(engine, options, [...messages, { role: 'user', content: text }], terminal, interrupt);
    if (stopped.aborted) break;
    lines.prompt();
  }
  lines.close();
}

/** The conversation with the answer so far; without the question if the engine refused it. */
async function reply(
  engine: Engine,
  options: ChatOptions,
  messages: Message[],
  terminal: Terminal,
  interrupt: Interrupt,
): Promise<Message[]> {
  const signal = interrupt.forAnswer();
  const print = (text: string) => options.json !== true && terminal.stdout.write(text);
  let content = '';
  let last: TokenDelta | null = null;
  try {
    for await (const delta of engine.generate({ prompt: { messages }, sampling: samplingOf(options, engine) }, { signal })) {
      content += delta.text;
      last = delta;
      print(printable(delta.text));
    }
  } catch (error) {
    if (!signal.aborted) {
      if (!GraftError.is(error) || options.json === true) throw error;
      terminal.stderr.write(describeFailure(error, false));
      return messages.slice(0, -1);
    }
    print(' [stopped]');
  } finally {
    interrupt.answerEnded();
  }
  print('\n');
  const { finishReason = null, stopReason = null, usage = null } = last ?? {};
  if (options.json === true) terminal.stdout.write(`${JSON.stringify({ content, finishReason, stopReason, usage })}\n`);
  return [...messages, { role: 'assistant', content }];
}

function opening({ system }: ChatOptions): Message[] {
  return system === undefined ? [] : [{ role: 'system', content: system }];
}

function samplingOf({ temperature, maxTokens, seed }: ChatOptions, { info }: Engine): NonNullable<GenerateRequest['sampling']> {
  return {
    temperature: temperature ?? info.generationDefaults.sampling.temperature ?? 0.7,
    ...(maxTokens === undefined ? {} : { maxTokens }),
    ...(seed === undefined ? {} : { seed }),
  };
}

/** Ctrl-C stops a running answer; without one, the second Ctrl-C leaves. */
class Interrupt {
  private answer: AbortController | null = null;
  private presses = 0;

  constructor(lines: Interface, terminal: Terminal, stopped: AbortSignal) {
    lines.on('SIGINT', () => {
      if (this.answer !== null) return this.answer.abort();
      if (++this.presses > 1) return lines.close();
      terminal.stdout.write('\nPress Ctrl-C again to leave.\n');
      lines.prompt();
      return undefined;
    });
    const leave = () => {
      this.answer?.abort();
      lines.close();
    };
    if (stopped.aborted) leave();
    stopped.addEventListener('abort', leave, { once: true });
  }

  reset(): void {
    this.presses = 0;
  }

  forAnswer(): AbortSignal {
    this.answer = new AbortController();
    return this.answer.signal;
  }

  answerEnded(): void {
    this.answer = null;
  }
}
