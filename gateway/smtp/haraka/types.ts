/**
 * The parts of Haraka 3.3.4 the bridge touches. Haraka has no types of its own
 * and is CommonJS; nothing outside gateway/smtp/haraka/ and the session that
 * drives it may know these shapes.
 */
import type { EventEmitter } from 'node:events';

/** `haraka-constants`. */
export const hookResult = { cont: 900, deny: 902, denySoft: 903, ok: 906 } as const;

/** `haraka-constants`.connection.state */
export const harakaState = { cmd: 1, loop: 2, data: 3, disconnecting: 99 } as const;

export type HookNext = (result?: number, message?: string) => void;
// biome-ignore lint/suspicious/noExplicitAny: what Haraka passes differs per hook and is untyped
export type Hook = (next: HookNext, connection: any, params?: any) => unknown;

export interface HarakaTransaction {
  discard_data: boolean;
  readonly message_stream: { destroy(): void };
  add_header(name: string, value: string): void;
  add_leading_header(name: string, value: string): void;
  remove_header(name: string): void;
}

export interface HarakaConnection {
  readonly client: EventEmitter;
  state: number;
  esmtp: boolean;
  capabilities: string[];
  transaction: HarakaTransaction | null;
  notes: Record<string, unknown>;
  encoding: string;
  set(path: string, value: unknown): void;
  setTLS(facts: { cipher: { name: string; version: string }; verified: boolean }): void;
  reset_transaction(done?: () => void): void;
}

export interface HarakaPlugin {
  name: string;
  /** Seconds; 0 for none. */
  timeout: number;
  [method: string]: unknown;
}

export interface HarakaPlugins {
  registered_hooks: Record<
    string,
    { plugin: string; method: string; priority: number; timeout: number; order: number }[]
  >;
  registered_plugins: Record<string, HarakaPlugin>;
  plugin_list: string[];
  server: unknown;
  load_plugins(list: string[]): void;
  shutdown_plugins(): void;
}

export interface HarakaLogger {
  /** What was said before there was anybody to hear it. */
  readonly deferred_logs: unknown[];
  loglevel: number;
  log(level: string, data: string): boolean;
  [method: string]: unknown;
}
