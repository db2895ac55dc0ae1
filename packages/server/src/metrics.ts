import { type Engine, type EngineStats, type FinishReason, graftVersion, type TokenDelta } from '@graft/engine';
import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify';
import { Counter, Gauge, Histogram, Registry } from 'prom-client';

/** The engine's counts as Prometheus shows them. A name that ends in `_total` is a counter. */
const statMetrics = [
  ['graft_captures_total', 'captures', 'Graphs captured from the forward of a module.'],
  ['graft_compiles_total', 'compiles', 'Graphs compiled for the platform, including those from recipes.'],
  ['graft_graph_optimisations_total', 'optimisations', 'Graphs that this process optimised; 0 after a start that found all its recipes.'],
  ['graft_recipes_total', 'recipes', 'Buckets whose graphs came from the recipes of an earlier start.'],
  ['graft_warm_up_seconds', 'warmUpSeconds', 'Duration of the warm-up.'],
  ['graft_recompiles_total', 'recompiles', 'Graphs captured after the engine was ready, because no graph fitted. It should stay 0.'],
  ['graft_prompt_tokens_total', 'promptTokens', 'Prompt tokens computed for requests.'],
  ['graft_generation_tokens_total', 'generationTokens', 'Tokens generated.'],
  ['graft_spec_decode_num_drafts_total', 'numDrafts', 'Runs with tokens that prompt lookup proposed.'],
  ['graft_spec_decode_num_draft_tokens_total', 'numDraftTokens', 'Tokens that prompt lookup proposed.'],
  ['graft_spec_decode_num_accepted_tokens_total', 'numAcceptedTokens', 'Proposed tokens that were chosen.'],
  ['graft_computed_tokens_total', 'computedTokens', 'Tokens of sequences that the model computed.'],
  ['graft_padded_tokens_total', 'paddedTokens', 'Padding tokens, computed to fill a static shape.'],
  ['graft_sequences_running', 'running', 'Sequences that hold a slot.'],
  ['graft_sequences_waiting', 'waiting', 'Sequences that wait for a slot.'],
  ['graft_slots_free', 'freeSlots', 'Slots of the KV cache that no sequence holds.'],
] as const satisfies readonly (readonly [name: string, count: keyof EngineStats, help: string])[];

type StatKey = (typeof statMetrics)[number][1];

const infoLabels = ['version', 'model', 'architecture', 'model_class', 'platform', 'device', 'mode', 'weights'] as const;

/** Bounds in seconds, from a tiny model on a warm cache to a long prompt on a slow machine. */
const latencies = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120];
const tokenTimes = [0.001, 0.0025, 0.005, 0.01, 0.02, 0.04, 0.075, 0.1, 0.15, 0.25, 0.5, 1, 2.5];

/** The metrics of one application. Each has its registry, so two servers in a process count apart. */
export class ServerMetrics {
  /** The server's own metrics. The constructor adds them to those of plugins. */
  private readonly own = new Registry();
  private readonly registry: Registry;
  private readonly registers = [this.own];
  private readonly engine: Engine;
  private readonly stats: readonly (readonly [StatKey, Counter | Gauge])[];
  private readonly up = this.gauge('graft_engine_up', '1 while the engine answers; 0 after it failed, when its counts are left out.');
  private readonly info = this.gauge('graft_info', 'The served model, as labels; always 1.', infoLabels);
  private readonly requests = this.counter(
    'graft_http_requests_total',
    'Requests that ended, by route and status. 499: the client left before it had the whole answer.',
    ['method', 'route', 'status'],
  );
  private readonly durations = this.histogram(
    'graft_http_request_duration_seconds',
    'From the head of a request to the end of its answer, the end of a stream included.',
    latencies,
    ['method', 'route'],
  );
  private readonly answers = this.counter(
    'graft_answers_total',
    'Answers (choices) that ended, by reason: stop, length, error, or abandoned by the client.',
    ['finish_reason'],
  );
  private readonly queued = this.histogram('graft_queue_seconds', 'From the request of an answer until it got a slot.', latencies);
  private readonly firstToken = this.histogram(
    'graft_time_to_first_token_seconds',
    'From the request of an answer to its first token, in the engine: a slow client does not count.',
    latencies,
  );
  private readonly interToken = this.histogram(
    'graft_inter_token_seconds',
    'Mean time between the tokens of an answer of two tokens or more, in the engine.',
    tokenTimes,
  );

  constructor(engine: Engine, registry: Registry = new Registry()) {
    this.engine = engine;
    this.registry = registry;
    this.stats = statMetrics.map(([name, key, help]) => [key, name.endsWith('_total') ? this.counter(name, help) : this.gauge(name, help)]);
    this.processMetrics();
    for (const metric of this.own.getMetricsAsArray()) registry.registerMetric(metric as never);
  }

  /** Answers GET /metrics. `secure` asks for the key: what is served, and how much, concerns whoever runs the server. */
  async answer(reply: FastifyReply): Promise<string> {
    reply.header('cache-control', 'no-store').type(this.registry.contentType);
    return await this.page();
  }

  /** Counts every request of the application from now on, refused ones included. */
  watchRequests(app: FastifyInstance): void {
    app.addHook('onRequest', (request, reply, done) => {
      this.watchRequest(request, reply);
      done();
    });
  }

  /** Counts a request whose head has come. */
  watchRequest({ method, routeOptions }: FastifyRequest, { raw }: FastifyReply): void {
    const route = routeOptions.url ?? 'unmatched'; // the pattern: made-up paths must not become labels
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

  /** Counts an answer that ended, by its reason. */
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

  /** The page that Prometheus scrapes, with the engine's counts of this moment. When the engine does not answer, only the server's metrics remain. */
  private async page(): Promise<string> {
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

  /** Prometheus's usual metrics of a process, read at each scrape. `collectDefaultMetrics` would start event loop and GC observers that cannot be stopped. */
  private processMetrics(): void {
    const { registers } = this;
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
    const started = this.gauge('process_start_time_seconds', 'When the process started, in seconds since the epoch.');
    started.set(Date.now() / 1000 - process.uptime());
  }

  private counter<Label extends string>(name: string, help: string, labelNames: readonly Label[] = []): Counter<Label> {
    return new Counter({ name, help, labelNames, registers: this.registers });
  }

  private gauge<Label extends string>(name: string, help: string, labelNames: readonly Label[] = []): Gauge<Label> {
    return new Gauge({ name, help, labelNames, registers: this.registers });
  }

  private histogram<L extends string>(name: string, help: string, buckets: number[], labelNames: readonly L[] = []): Histogram<L> {
    return new Histogram({ name, help, buckets, labelNames, registers: this.registers });
  }
}
