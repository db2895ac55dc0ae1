import { definePlugin } from '@graft/registry';
import { Counter } from 'prom-client';
import { Metrics, Routes } from './services.ts';

/** A plugin that adds a route, and counts the requests to it. */
export default definePlugin({
  name: 'greetings',
  bind(bind) {
    bind.decorate(Metrics, (registry) => {
      new Counter({ name: 'greetings_total', help: 'Requests to /greet.', registers: [registry] });
      return registry;
    });
    bind.many(Routes).toDynamicValue(async (services) => {
      const counter = (await services.get(Metrics)).getSingleMetric('greetings_total') as Counter;
      return (app, { engine }) => {
        app.get('/greet', async () => {
          counter.inc();
          return { greeting: `hello from ${engine.info.model}` };
        });
      };
    });
  },
});
