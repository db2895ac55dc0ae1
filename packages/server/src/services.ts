import type { Engine } from '@graft/engine';
import { type Binding, defaultBindings, inject, injectable, listToken, token } from '@graft/registry';
import type { FastifyInstance } from 'fastify';
import { Registry } from 'prom-client';

/** Adds routes to the server. Where the server has an API key, requests to them need it. */
export type Route = (app: FastifyInstance, served: { readonly engine: Engine }) => void | Promise<void>;
export const Routes = listToken<Route>('Routes', 'engine', 'function');

export type Metrics = Registry;
/** The registry that `/metrics` shows. A plugin decorates it to add metrics, or binds its own registry, which then gets Graft's metrics too. */
export const Metrics = token<Metrics>('Metrics', 'engine', ['metrics']);

/** The services of a server. They live in its main thread; the engine's worker builds other services of the same plugins. */
@injectable()
class ServerParts {
  readonly metrics: Metrics;
  readonly routes: readonly Route[];

  constructor(@inject(Metrics) metrics: Metrics, @inject(Routes) routes: readonly Route[]) {
    this.metrics = metrics;
    this.routes = routes;
  }
}

export const ServerServices = token<ServerParts>('ServerServices');

/** The default of each service, for a server whose plugins do not bind it. */
export const serverServices: readonly Binding[] = defaultBindings('server', (bind) => {
  bind(Metrics).toDynamicValue(() => new Registry());
  bind(ServerServices).to(ServerParts);
});
