/**
 * What travels over the embedded registry's Unix socket: one JSON object per
 * line. The first line of each side names the version; a call has a number
 * that its answer repeats; events of a watch come as whole revisions, so that a
 * client that reconnects can name the last one it has seen in full.
 */
import type { Socket } from 'node:net';
import { Fault, type FaultCode, faultCodes } from '../../base/fault.ts';
import type { Change, Condition, RegistryEntry, WatchEvent } from '../registry.ts';

export const registryProtocolVersion = 1;
/** Longest line a client may send. */
export const requestLineBytesMax = 1024 * 1024;
/** Longest line of the server: a request's values again, with more punctuation. */
export const answerLineBytesMax = 1280 * 1024;
/** A list is answered in pages of about this many characters. */
export const listPageCharsMax = 256 * 1024;
export const watchesPerClientMax = 256;

export interface Hello {
  readonly hello: 'postern-registry';
  readonly version: number;
}

export const hello: Hello = { hello: 'postern-registry', version: registryProtocolVersion };

/** Calls a client makes. */
export type Request = { readonly id: number } & (
  | { readonly op: 'get'; readonly key: string }
  | { readonly op: 'list'; readonly prefix: string; readonly after: string }
  | {
      readonly op: 'transact';
      readonly conditions: readonly Condition[];
      readonly changes: readonly Change[];
    }
  | { readonly op: 'grant'; readonly ttlMs: number }
  | { readonly op: 'renew' | 'revoke'; readonly lease: string }
  | { readonly op: 'watch'; readonly prefix: string; readonly from: number }
  /** Ends the watch that was started by the request `watch`. */
  | { readonly op: 'unwatch'; readonly watch: number }
);

export type Answer =
  | { readonly id: number; readonly result: unknown }
  | { readonly id: number; readonly fault: FaultCode; readonly message: string };

/** What a watch sends: `events` of whole revisions up to `revision`, or that it is over. */
export type WatchNews =
  | { readonly watch: number; readonly revision: number; readonly events: readonly WatchEvent[] }
  | { readonly watch: number; readonly resynchronise: true };

export interface ListPage {
  readonly entries: RegistryEntry[];
  readonly revision: number;
  readonly more: boolean;
}

export function faultOfAnswer(code: string, message: string): Fault {
  return new Fault(code in faultCodes ? (code as FaultCode) : 'registry-failed', message);
}

/**
 * Splits what arrives on `socket` into lines and parses each as a JSON object.
 * A line that is too long or is not an object ends the connection: there is no
 * telling where the next one starts.
 */
export function readJsonLines(
  socket: Socket,
  lineBytesMax: number,
  onObject: (object: Record<string, unknown>) => void,
): void {
  let parts: Buffer[] = [];
  let partsBytes = 0;
  socket.on('data', (chunk: Buffer) => {
    let start = 0;
    while (!socket.destroyed) {
      const end = chunk.indexOf(0x0a, start);
      const piece = chunk.subarray(start, end === -1 ? chunk.length : end);
      partsBytes += piece.length;
      if (partsBytes > lineBytesMax) {
        socket.destroy(new Fault('peer-protocol', 'a line on the registry socket is too long'));
        return;
      }
      parts.push(piece);
      if (end === -1) return;
      const line = parts.length === 1 ? parts[0]! : Buffer.concat(parts, partsBytes);
      parts = [];
      partsBytes = 0;
      start = end + 1;
      const object = parseObject(line);
      if (object === undefined) {
        socket.destroy(new Fault('peer-protocol', 'a line on the registry socket is not a JSON object'));
        return;
      }
      onObject(object);
    }
  });
}

function parseObject(line: Buffer): Record<string, unknown> | undefined {
  try {
    const value: unknown = JSON.parse(line.toString('utf8'));
    return typeof value === 'object' && value !== null && !Array.isArray(value)
      ? (value as Record<string, unknown>)
      : undefined;
  } catch {
    return undefined;
  }
}

export function writeJsonLine(socket: Socket, object: object): boolean {
  return socket.write(`${JSON.stringify(object)}\n`);
}
