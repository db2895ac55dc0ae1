import { once } from 'node:events';
import { createServer, isIP } from 'node:net';
import { GraftError, messageOf } from '@graft/common';
import type { Engine } from '@graft/engine';
import type { FastifyInstance } from 'fastify';
import { pino } from 'pino';
import type { AppOptions } from '../app.ts';
import { checkReloadKey, loopbackHosts } from '../security.ts';
import type { Environment } from './config.ts';
import { askedOf } from './flags.ts';
import { defaultPlugins, type EngineStarter, withEngine } from './start-engine.ts';
import type { Terminal } from './terminal.ts';

export interface ServeOptions {
  host: string;
  port: number;
  apiKey?: string;
  enableReload?: boolean;
  allowedHost?: string[];
  allowedOrigin?: string[];
  allowImageHost?: string[];
  allowPrivateImageHosts?: boolean;
  logLevel: string;
  json?: boolean;
  [engineKey: string]: unknown;
}

/** The address cannot be listened on. */
export class ListenError extends GraftError {
  constructor(host: string, port: number, error: unknown) {
    const inUse = (error as NodeJS.ErrnoException).code === 'EADDRINUSE';
    super({
      code: inUse ? 'GRAFT_PORT_IN_USE' : 'GRAFT_LISTEN_FAILED',
      what: inUse ? `Port ${port} is in use by another program.` : `Cannot listen: ${messageOf(error)}.`,
      where: `--host ${host} --port ${port}`,
      fix: inUse
        ? `end that program, or choose another port, e.g. --port ${port + 1} (0 takes any free one).`
        : 'choose another --host or --port.',
      cause: error,
    });
  }
}

/** Loads the model and serves it until SIGINT or SIGTERM. Then stops in order: no new connections, running requests aborted, the engine closed. */
export async function serve(options: ServeOptions, environment: Environment, terminal: Terminal, start?: EngineStarter): Promise<void> {
  checkReloadKey(options); // before a model is loaded for minutes
  await checkPort(options.host, options.port);
  const logger = pino({ level: options.logLevel, redact: ['req.headers.authorization'] }, pino.destination({ dest: 2, sync: true }));
  const warn = (record: object, message: string) => logger.warn(record, message);
  const importApp = () => Promise.all([import('../app.ts'), import('../services.ts'), import('@graft/engine')]);
  await withEngine(options, { environment, terminal, warn, start, whileLoading: importApp }, async (engine, stopped) => {
    const [{ createApp }, { ServerServices, serverServices }, { createApplicationServices }] = await importApp();
    await using services = await createApplicationServices(askedOf(options, environment), engine.info, serverServices, defaultPlugins);
    const { metrics, routes } = await services.get(ServerServices);
    const app = createApp(engine, { logger, metrics, routes, ...appOptions(options) });
    await app.listen({ host: options.host, port: options.port }).catch((error) => {
      throw new ListenError(options.host, options.port, error);
    });
    terminal.stdout.write(welcome(engine, app, options));
    if (!stopped.aborted) await once(stopped, 'abort');
    terminal.stderr.write('Stopping.\n');
    await app.close();
  });
}

function appOptions({ host, apiKey, allowedHost = [], ...options }: ServeOptions): AppOptions {
  return {
    ...(apiKey !== undefined && { apiKey }),
    enableReload: options.enableReload === true,
    // On loopback the server answers only to this machine's own names, else a web page could reach it through another name.
    ...(isLoopback(host) && { allowedHosts: [...loopbackHosts, bracketed(host), ...allowedHost] }),
    ...(!isLoopback(host) && allowedHost.length > 0 && { allowedHosts: allowedHost }),
    allowedOrigins: options.allowedOrigin ?? [],
    imageHosts: { allowed: options.allowImageHost ?? [], allowPrivate: options.allowPrivateImageHosts === true },
  };
}

function welcome(engine: Engine, app: FastifyInstance, { host, apiKey, json }: ServeOptions): string {
  const { model, modelClass, platform, device, mode } = engine.info;
  const address = app.server.address();
  const url = urlOf(host, typeof address === 'object' && address !== null ? address.port : 0);
  if (json === true) return `${JSON.stringify({ url, model, modelClass, platform, mode, device })}\n`;
  const isOpen = !isLoopback(host) && apiKey === undefined;
  return [
    `${model} is served by ${modelClass} on ${platform} (${mode}${device === 'emulated' ? ', emulated device' : ''}).`,
    ...(isOpen ? [`Anyone who reaches ${host} can use it: set --api-key to ask for a key.`] : []),
    `Chat: ${url}   API: ${url}/v1`,
    '',
  ].join('\n');
}

/** Finds a port in use before the model loads, not after. */
async function checkPort(host: string, port: number): Promise<void> {
  const probe = createServer();
  await new Promise<void>((resolve, reject) => {
    probe.once('error', (error) => reject(new ListenError(host, port, error)));
    probe.listen(port, host, () => probe.close(() => resolve()));
  });
}

function isLoopback(host: string): boolean {
  return host === 'localhost' || host === '::1' || (isIP(host) === 4 && host.startsWith('127.'));
}

function urlOf(host: string, port: number): string {
  const isAny = host === '0.0.0.0' || host === '::';
  return `http://${isAny ? 'localhost' : bracketed(host)}:${port}`;
}

function bracketed(host: string): string {
  return isIP(host) === 6 ? `[${host}]` : host;
}
