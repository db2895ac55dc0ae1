import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { fileURLToPath } from 'node:url';
import type { EngineInfo, EngineStats } from '@graft/engine';

/** The server as `npm start` runs it, on a free port. Needs the built packages (`npm run build`). */
export interface ServerProcess {
  url: string;
  health(): Promise<{ status: string; engine: EngineInfo; stats: EngineStats }>;
  /** SIGTERM; gives the exit code. */
  stop(): Promise<number | null>;
}

const start = fileURLToPath(new URL('../../examples/server/start.mjs', import.meta.url));

export async function startServer(...flags: string[]): Promise<ServerProcess> {
  const child = spawn(process.execPath, [start, '--port', '0', ...flags], { stdio: ['ignore', 'pipe', 'pipe'] });
  const url = await firstUrl(child);
  return {
    url,
    health: async () => (await (await fetch(`${url}/health`)).json()) as Awaited<ReturnType<ServerProcess['health']>>,
    stop: async () => {
      if (child.exitCode !== null) return child.exitCode;
      const closed = once(child, 'close');
      child.kill('SIGTERM');
      await closed;
      return child.exitCode;
    },
  };
}

function firstUrl(child: ChildProcess): Promise<string> {
  let output = '';
  return new Promise((resolve, reject) => {
    const read = (text: string) => {
      output += text;
      const url = /Chat: (http:\S+)/.exec(output)?.[1];
      if (url !== undefined) resolve(url);
    };
    child.stdout?.setEncoding('utf8').on('data', read);
    child.stderr?.setEncoding('utf8').on('data', read);
    child.once('close', (code) => reject(new Error(`The server ended with ${code} before it listened:\n${output}`)));
  });
}
