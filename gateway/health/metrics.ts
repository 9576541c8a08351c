/**
 * What a gateway counts of itself, for Prometheus. Doors and the router add to
 * these; the plugin host registers its plugins' own counters in `registry`.
 * Labels are from fixed lists, never from what a client sent: a label value is
 * a time series that is kept for good.
 */
import { monitorEventLoopDelay } from 'node:perf_hooks';
import { Counter, Gauge, Histogram, Registry } from 'prom-client';

export interface Metrics {
  /** prom-client's registry: `new Counter({ …, registers: [metrics.registry] })` puts a metric on the page. */
  readonly registry: Registry;
  /** Client connections open now. */
  readonly connections: Gauge<'protocol'>;
  readonly connectionsTotal: Counter<'protocol'>;
  /** Connections turned away before a door saw them; `reason`: `full`, `network`, `newcomer`, `reserve`, `proxy`, `plugin`, `tls`. */
  readonly turnedAway: Counter<'protocol' | 'reason'>;
  /** `outcome`: `ok`, `failed`, `refused`, `unavailable`. */
  readonly logins: Counter<'protocol' | 'outcome'>;
  /** `outcome`: `stored`, `refused`, `deferred`. One message counts once, however many recipients. */
  readonly messages: Counter<'outcome'>;
  readonly messageBytes: Counter;
  /** Bytes of ended connections as the clients saw them; `direction`: `in`, `out`. */
  readonly bytes: Counter<'protocol' | 'direction'>;
  /** Working links to backends. */
  readonly links: Gauge;
  /** Times a request went to a second backend or waited for an owner; `reason`: `not-owner`, `broken`, `no-owner`, `busy`. */
  readonly retries: Counter<'reason'>;
  /** Sessions taken up at another owner; `how`: `moved` (handed over), `lost` (backend or link gone). */
  readonly resumed: Counter<'how'>;
  /** Sessions that ended with their owner; `reason`: `mid-answer`, `no-checkpoint`, `no-owner`, `no-progress`, `refused`, `stalled`. */
  readonly notResumed: Counter<'reason'>;
  /** How long resumed sessions were without an owner. */
  readonly pauses: Histogram;
  /** 1 while it lasts; `state`: `stress`, `reserve`. */
  readonly shield: Gauge<'state'>;
  close(): void;
}

export function openMetrics(): Metrics {
  const registry = new Registry();
  const registers = [registry];
  const lag = monitorEventLoopDelay({ resolution: 20 });
  lag.enable();
  new Gauge({
    name: 'postern_event_loop_lag_seconds',
    help: 'Delay of the event loop since the last scrape: the 99th percentile.',
    registers,
    collect() {
      // The histogram counts the timer's own 20 ms of sleep.
      this.set(Math.max(0, lag.percentile(99) / 1e9 - 0.02));
      lag.reset();
    },
  });
  new Gauge({
    name: 'postern_memory_bytes',
    help: 'Resident memory of this member.',
    registers,
    collect() {
      this.set(process.memoryUsage.rss());
    },
  });
  new Counter({
    name: 'postern_cpu_seconds_total',
    help: 'Processor time this member has used.',
    registers,
    collect() {
      const { user, system } = process.cpuUsage();
      this.reset();
      this.inc((user + system) / 1e6);
    },
  });
  return {
    registry,
    connections: new Gauge({
      name: 'postern_connections',
      help: 'Client connections open now.',
      labelNames: ['protocol'],
      registers,
    }),
    connectionsTotal: new Counter({
      name: 'postern_connections_total',
      help: 'Client connections accepted.',
      labelNames: ['protocol'],
      registers,
    }),
    turnedAway: new Counter({
      name: 'postern_connections_turned_away_total',
      help: 'Client connections turned away before the first command.',
      labelNames: ['protocol', 'reason'],
      registers,
    }),
    logins: new Counter({
      name: 'postern_logins_total',
      help: 'Login attempts by outcome.',
      labelNames: ['protocol', 'outcome'],
      registers,
    }),
    messages: new Counter({
      name: 'postern_messages_total',
      help: 'Messages received by outcome.',
      labelNames: ['outcome'],
      registers,
    }),
    messageBytes: new Counter({
      name: 'postern_message_bytes_total',
      help: 'Bytes of messages stored.',
      registers,
    }),
    bytes: new Counter({
      name: 'postern_client_bytes_total',
      help: 'Bytes of ended client connections.',
      labelNames: ['protocol', 'direction'],
      registers,
    }),
    links: new Gauge({ name: 'postern_links', help: 'Working links to backends.', registers }),
    retries: new Counter({
      name: 'postern_owner_retries_total',
      help: 'Requests that had to look for the owner again.',
      labelNames: ['reason'],
      registers,
    }),
    resumed: new Counter({
      name: 'postern_sessions_resumed_total',
      help: 'Sessions taken up by another backend.',
      labelNames: ['how'],
      registers,
    }),
    notResumed: new Counter({
      name: 'postern_sessions_not_resumed_total',
      help: 'Sessions that ended because their backend went.',
      labelNames: ['reason'],
      registers,
    }),
    pauses: new Histogram({
      name: 'postern_session_pause_seconds',
      help: 'How long sessions were without a backend before one took them up.',
      buckets: [0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30],
      registers,
    }),
    shield: new Gauge({
      name: 'postern_shield',
      help: '1 while the gateway is under stress, or down to its reserve.',
      labelNames: ['state'],
      registers,
    }),
    close() {
      lag.disable();
      registry.clear();
    },
  };
}
