/**
 * Looks once a second at how the gateway is doing, and says what that means for
 * clients: under stress deadlines are shorter and the last places belong to
 * networks known as good; with nothing to spare nobody new comes in. What is
 * open goes on in either case.
 */
import { readdir } from 'node:fs/promises';
import { monitorEventLoopDelay } from 'node:perf_hooks';
import type { Log } from '../../base/log.ts';
import type { Metrics } from '../health/metrics.ts';
import type { Client } from '../session/session.ts';
import type { GatewaySettings } from '../settings.ts';
import { KnownGood } from './known-good.ts';
import { calm, isSpent, nextStress, type ReserveReading, type StressReading } from './stress.ts';

const lookEveryMs = 1000;
/** The histogram counts its own sleep. */
const lagResolutionMs = 20;
/** Share of the places that newcomers may take under stress. */
const newcomersShare = 0.9;
/** Waits and allowed errors under stress are this part of what is set. */
const stressDivisor = 3;

export interface ShieldParts {
  readonly settings: GatewaySettings;
  /** Connections now. */
  connections(): number;
  /** Descriptors this process may have. */
  readonly descriptorsMax: number;
  readonly log: Log;
  readonly gauge?: Metrics['shield'];
}

export class Shield {
  readonly #parts: ShieldParts;
  readonly #knownGood = new KnownGood();
  readonly #lag = monitorEventLoopDelay({ resolution: lagResolutionMs });
  #timer: NodeJS.Timeout | undefined;
  #stress = calm;
  #spent = false;

  constructor(parts: ShieldParts) {
    this.#parts = parts;
  }

  get stressed(): boolean {
    return this.#stress.stressed;
  }

  get spent(): boolean {
    return this.#spent;
  }

  start(): void {
    this.#lag.enable();
    this.#timer = setInterval(() => void this.#look(), lookEveryMs).unref();
  }

  close(): void {
    clearInterval(this.#timer);
    this.#lag.disable();
  }

  /** One reading. */
  judge(stress: StressReading, reserve: ReserveReading): void {
    const { log, gauge } = this.#parts;
    const was = this.#stress.stressed;
    this.#stress = nextStress(this.#stress, stress);
    const facts = { share: Number(stress.share.toFixed(2)), lagMs: Math.round(stress.lagMs) };
    if (this.#stress.stressed && !was) log.warn(facts, 'stress begins');
    if (!this.#stress.stressed && was) log.info(facts, 'stress ends');
    const wasSpent = this.#spent;
    this.#spent = isSpent(wasSpent, reserve);
    if (this.#spent && !wasSpent) log.error({ ...reserve }, 'nothing to spare');
    if (!this.#spent && wasSpent) log.info({ ...reserve }, 'room again');
    gauge?.set({ state: 'stress' }, Number(this.stressed));
    gauge?.set({ state: 'reserve' }, Number(this.#spent));
  }

  /** This client's network logged in, or delivered mail. */
  wasGood(client: Client): void {
    this.#knownGood.add(client.network, Date.now());
  }

  /** May a client come in that has its place already counted? */
  admits(client: Client): boolean {
    if (!this.stressed) return true;
    const room = this.#parts.settings['net.connections_max'] * newcomersShare;
    return this.#parts.connections() <= room || this.#knownGood.has(client.network, Date.now());
  }

  /** A wait or a count of errors as it holds now. */
  shorten(set: number): number {
    return this.stressed ? Math.max(1, Math.floor(set / stressDivisor)) : set;
  }

  /** The settings with what stress makes of them, read live. */
  settings(): GatewaySettings {
    const set = this.#parts.settings;
    const shorter = (
      key: 'net.greeting_timeout' | 'net.login_timeout' | 'smtp.idle_timeout' | 'smtp.errors_max',
    ) => ({
      [key]: { get: () => this.shorten(set[key]) },
    });
    return Object.create(set, {
      ...shorter('net.greeting_timeout'),
      ...shorter('net.login_timeout'),
      ...shorter('smtp.idle_timeout'),
      ...shorter('smtp.errors_max'),
    }) as GatewaySettings;
  }

  async #look(): Promise<void> {
    const { settings, descriptorsMax } = this.#parts;
    const lagMs = Math.max(0, this.#lag.percentile(99) / 1e6 - lagResolutionMs);
    this.#lag.reset();
    // Where the list cannot be opened for want of a descriptor, none is left.
    const held = await readdir('/proc/self/fd').then(
      (names) => names.length,
      (error: NodeJS.ErrnoException) => (error.code === 'EMFILE' ? descriptorsMax : 0),
    );
    this.judge(
      {
        share: this.#parts.connections() / settings['net.connections_max'],
        shareMark: settings['net.stress_percent'] / 100,
        lagMs,
      },
      {
        descriptorsLeft: descriptorsMax - held,
        memoryBytes: process.memoryUsage.rss(),
        memoryBytesMark: settings['net.memory_mark'],
      },
    );
  }
}
