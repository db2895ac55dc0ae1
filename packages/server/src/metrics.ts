import { type Engine, type EngineStats, type FinishReason, graftVersion, type TokenDelta } from '@graft/engine';
import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify';
import { Counter, Gauge, Histogram, Registry } from 'prom-client';

/** What the engine counts, and how Prometheus shows it; `_total` makes it a counter. */
const statMetrics = [
  ['graft_captures_total', 'captures', 'Graphs captured from the forward of a module.'],
  ['graft_compiles_total', 'compiles', 'Graphs compiled for the platform, those from recipes too.'],
  ['graft_graph_optimisations_total', 'optimisations', 'Graphs that this process optimised; a start whose recipes are all there has none.'],
  ['graft_recipes_total', 'recipes', 'Buckets whose graphs came from the recipes of an earlier start.'],
  ['graft_warm_up_seconds', 'warmUpSeconds', 'What the warm-up took.'],
  [
    'graft_recompiles_total',
    'recompiles',
    'Graphs captured after the engine was ready, because none that it had fitted. It should stay 0.',
  ],
  ['graft_prompt_tokens_total', 'promptTokens', 'Prompt tokens computed for requests.'],
  ['graft_generation_tokens_total', 'generationTokens', 'Tokens generated.'],
  ['graft_computed_tokens_total', 'computedTokens', 'Tokens of sequences that went through the model.'],
  ['graft_padded_tokens_total', 'paddedTokens', 'Tokens computed with these, to fill a static shape.'],
  ['graft_sequences_running', 'running', 'Sequences that hold a slot.'],
  ['graft_sequences_waiting', 'waiting', 'Sequences that wait for a slot.'],
  ['graft_slots_free', 'freeSlots', 'Slots of the KV cache that no sequence holds.'],
] as const satisfies readonly (readonly [name: string, count: keyof EngineStats, help: string])[];

type StatKey = (typeof statMetrics)[number][1];

const infoLabels = ['version', 'model', 'architecture', 'model_class', 'platform', 'device', 'mode', 'weights'] as const;

/** Seconds, from a tiny model's on a warm cache to a long prompt's on a slow machine. */
const latencies = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120];
const tokenTimes = [0.001, 0.0025, 0.005, 0.01, 0.02, 0.04, 0.075, 0.1, 0.15, 0.25, 0.5, 1, 2.5];

/** The metrics of one application, in a registry of its own: two servers in a process do not share a count. */
export class Metrics {
  private readonly registry = new Registry();
  private readonly engine: Engine;
  private readonly stats: readonly (readonly [StatKey, Counter | Gauge])[];
  private readonly registers = { registers: [this.registry] };
  private readonly up = new Gauge({
    name: 'graft_engine_up',
    help: '1 while the engine answers; 0: it failed, and what it counts is left out.',
    ...this.registers,
  });
  private readonly info = new Gauge({
    name: 'graft_info',
    help: 'What is served, as labels; always 1.',
    labelNames: infoLabels,
    ...this.registers,
  });
  private readonly requests = new Counter({
    name: 'graft_http_requests_total',
    help: 'Requests that ended, by route and status. 499: the client went away before it had the whole answer.',
    labelNames: ['method', 'route', 'status'],
    ...this.registers,
  });
  private readonly durations = new Histogram({
    name: 'graft_http_request_duration_seconds',
    help: 'From the head of a request to the end of its answer, the end of a stream included.',
    labelNames: ['method', 'route'],
    buckets: latencies,
    ...this.registers,
  });
  private readonly answers = new Counter({
    name: 'graft_answers_total',
    help: 'Answers (choices) that ended, by why: stop, length, error, or abandoned by the client.',
    labelNames: ['finish_reason'],
    ...this.registers,
  });
  private readonly queued = new Histogram({
    name: 'graft_queue_seconds',
    help: 'From an answer being asked of the engine until it had a slot.',
    buckets: latencies,
    ...this.registers,
  });
  private readonly firstToken = new Histogram({
    name: 'graft_time_to_first_token_seconds',
    help: 'From an answer being asked of the engine to its first token, in the engine: a slow client does not count.',
    buckets: latencies,
    ...this.registers,
  });
  private readonly interToken = new Histogram({
    name: 'graft_inter_token_seconds',
    help: 'Mean time between the tokens of an answer of two tokens or more, in the engine.',
    buckets: tokenTimes,
    ...this.registers,
  });

  constructor(engine: Engine) {
    this.engine = engine;
    this.stats = statMetrics.map(([name, key, help]) => {
      const Metric = name.endsWith('_total') ? Counter : Gauge;
      return [key, new Metric({ name, help, ...this.registers })];
    });
    processMetrics(this.registry);
  }

  get contentType(): string {
    return this.registry.contentType;
  }

  /** Counts every request of an application that has a route from now on, also those that are refused. */
  watchRequests(app: FastifyInstance): void {
    app.addHook('onRequest', (request, reply, done) => {
      this.watchRequest(request, reply);
      done();
    });
  }

  /** Counts a request, from its head on. */
  watchRequest({ method, routeOptions }: FastifyRequest, { raw }: FastifyReply): void {
    const route = routeOptions.url ?? 'unmatched'; // the pattern: a path that somebody made up is no label
    const stop = this.durations.startTimer({ method, route });
    const end = (status: number): void => {
      raw.off('finish', onFinish).off('close', onClose);
      stop();
      this.requests.inc({ method, route, status });
    };
    const onFinish = (): void => end(raw.statusCode);
    const onClose = (): void => end(499); // before it was finished
    raw.once('finish', onFinish).once('close', onClose);
  }

  /** Counts an answer that ended, by why. */
  countAnswer(finish_reason: FinishReason | 'error' | 'abandoned'): void {
    this.answers.inc({ finish_reason });
  }

  /** @param delta the last one of an answer. */
  observeTimes({ timing, usage }: TokenDelta): void {
    if (timing === undefined) return;
    this.queued.observe(timing.queuedMs / 1000);
    this.firstToken.observe(timing.firstTokenMs / 1000);
    const more = usage.completionTokens - 1;
    if (more > 0) this.interToken.observe((timing.totalMs - timing.firstTokenMs) / 1000 / more);
  }

  /** The page that Prometheus scrapes; the engine is asked for its counts now. An engine that does not answer leaves the server's own metrics. */
  async page(): Promise<string> {
    const stats = await this.engine.stats().catch(() => null);
    this.up.set(stats === null ? 0 : 1);
    for (const [key, metric] of this.stats) {
      metric.reset();
      if (stats === null) metric.remove();
      else metric.inc(stats[key]);
    }
    const { model, architecture, modelClass, platform, device, mode, weights } = this.engine.info;
    this.info.reset(); // a reload may serve another form of the weights
    this.info.set({ version: graftVersion, model, architecture, model_class: modelClass, platform, device, mode, weights }, 1);
    return this.registry.metrics();
  }
}

/** Prometheus's usual metrics of a process, read at each scrape. `collectDefaultMetrics` starts observers of the event loop and of GC that nothing can stop. */
function processMetrics(registry: Registry): void {
  const registers = [registry];
  const started = Date.now() / 1000 - process.uptime();
  new Counter({
    name: 'process_cpu_seconds_total',
    help: 'User and system CPU time of the whole process, in seconds.',
    registers,
    collect() {
      const { user, system } = process.cpuUsage();
      this.reset();
      this.inc((user + system) / 1e6);
    },
  });
  new Gauge({
    name: 'process_resident_memory_bytes',
    help: 'Resident memory, in bytes.',
    registers,
    collect() {
      this.set(process.memoryUsage.rss());
    },
  });
  new Gauge({ name: 'process_start_time_seconds', help: 'When the process started, in seconds since the epoch.', registers }).set(started);
}
