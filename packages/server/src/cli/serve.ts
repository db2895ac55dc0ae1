import { createServer, isIP } from 'node:net';
import { GraftError, messageOf } from '@graft/common';
import { createApplicationServices, type Engine } from '@graft/engine';
import type { FastifyInstance } from 'fastify';
import { type Logger, pino } from 'pino';
import { type AppOptions, createApp } from '../app.ts';
import { checkReloadKey, loopbackHosts } from '../security.ts';
import { ServerServices, serverServices } from '../services.ts';
import type { Environment } from './config.ts';
import { askedOf } from './flags.ts';
import { defaultPlugins, type EngineStarter, loggedEvents, startEngine } from './start-engine.ts';
import { stopSignal, type Terminal } from './terminal.ts';

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
  [engineKey: string]: unknown;
}

/** The address cannot be listened on. */
export class ListenError extends GraftError {
  constructor(host: string, port: number, error: unknown) {
    const inUse = systemCode(error) === 'EADDRINUSE';
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

/**
 * Loads the model, serves it until SIGINT or SIGTERM, then stops in order: no new connections, running requests aborted,
 * the engine closed.
 */
export async function serve(options: ServeOptions, environment: Environment, terminal: Terminal, start?: EngineStarter): Promise<void> {
  checkReloadKey(options); // before a model is loaded for minutes
  const stop = stopSignal();
  try {
    await checkPort(options.host, options.port);
    const logger = pino({ level: options.logLevel, redact: ['req.headers.authorization'] }, pino.destination({ dest: 2, sync: true }));
    const starting = {
      environment,
      terminal,
      signal: stop.signal,
      events: loggedEvents((record, message) => logger.warn(record, message)),
    };
    const engine = await startEngine(options, { ...starting, ...(start === undefined ? {} : { start }) });
    try {
      const services = await createApplicationServices(askedOf(options, environment), engine.info, serverServices, defaultPlugins);
      try {
        const { metrics, routes } = await services.get(ServerServices);
        await serveUntilStopped(engine, { ...options, metrics, routes }, logger, terminal, stop.signal);
      } finally {
        await services[Symbol.asyncDispose]();
      }
    } finally {
      await engine.close();
    }
  } finally {
    stop.dispose();
  }
}

async function serveUntilStopped(
  engine: Engine,
  options: ServeOptions & Pick<AppOptions, 'metrics' | 'routes'>,
  logger: Logger,
  terminal: Terminal,
  signal: AbortSignal,
): Promise<void> {
  const {
    host,
    port,
    apiKey,
    enableReload = false,
    allowedHost = [],
    allowedOrigin = [],
    allowImageHost = [],
    allowPrivateImageHosts = false,
    metrics,
    routes = [],
  } = options;
  const app = createApp(engine, {
    logger,
    routes,
    ...(metrics !== undefined && { metrics }),
    allowedOrigins: allowedOrigin,
    enableReload,
    imageHosts: { allowed: allowImageHost, allowPrivate: allowPrivateImageHosts },
    ...(apiKey === undefined ? {} : { apiKey }),
    ...hostCheck(host, allowedHost),
  });
  await listen(app, host, port);
  terminal.stdout.write(welcome(engine, app, options));
  await new Promise<void>((resolve) => {
    if (signal.aborted) resolve();
    signal.addEventListener('abort', () => resolve(), { once: true });
  });
  terminal.stderr.write('Stopping.\n');
  await app.close();
}

function welcome(engine: Engine, app: FastifyInstance, { host, apiKey }: ServeOptions): string {
  const { model, modelClass, platform, device, mode } = engine.info;
  const address = app.server.address();
  const port = typeof address === 'object' && address !== null ? address.port : 0;
  const isOpen = !isLoopback(host) && apiKey === undefined;
  return [
    `${model} is served by ${modelClass} on ${platform} (${mode}${device === 'emulated' ? ', emulated device' : ''}).`,
    ...(isOpen ? [`Anyone who reaches ${host} can use it: set --api-key to ask for a key.`] : []),
    `Chat: ${urlOf(host, port)}   API: ${urlOf(host, port)}/v1`,
    '',
  ].join('\n');
}

/** A loopback server answers to this machine's own names only, else a web page could reach it through a name of its own. */
function hostCheck(host: string, allowed: string[]): { allowedHosts?: string[] } {
  if (isLoopback(host)) return { allowedHosts: [...loopbackHosts, bracketed(host), ...allowed] };
  return allowed.length === 0 ? {} : { allowedHosts: allowed };
}

async function listen(app: FastifyInstance, host: string, port: number): Promise<void> {
  try {
    await app.listen({ host, port });
  } catch (error) {
    throw new ListenError(host, port, error);
  }
}

/** Finds out in a millisecond what would otherwise be said after the model has loaded. */
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

function systemCode(error: unknown): unknown {
  return typeof error === 'object' && error !== null && 'code' in error ? error.code : undefined;
}
