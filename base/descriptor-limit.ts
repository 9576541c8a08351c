/**
 * Descriptors: each client connection takes one, and a gateway that runs out
 * turns clients away long before `net.connections_max`. Node raises the soft
 * limit to the hard one by itself; what is left is to say when that is too low,
 * and to know how many are to spare for sockets of sessions.
 */
import { readFile } from 'node:fs/promises';

/** Beside its clients a gateway holds links, listeners, spool files and scanner connections. */
const besideClients = 500;

/** A line for the admin when the hard limit is too low for what the settings allow; else `undefined`. */
export function descriptorAdvice(hardLimit: number, connectionsMax: number): string | undefined {
  const needed = connectionsMax + besideClients;
  if (hardLimit >= needed) return undefined;
  return `only ${hardLimit} open files are allowed, and net.connections_max = ${connectionsMax} needs ${needed}; raise it with "ulimit -Hn" or LimitNOFILE=, or lower the setting`;
}

/** Sockets of sessions a gateway may open without taking a descriptor that a client may need. */
export function sessionSocketsMax(hardLimit: number, connectionsMax: number): number {
  return Math.max(0, hardLimit - connectionsMax - besideClients);
}

/** The same for a backend, which needs the rest for files. */
export function sessionSocketsOfBackendMax(hardLimit: number): number {
  return Math.floor(Math.min(hardLimit, 1_000_000) * 0.75);
}

/** The hard limit of open files of this process; `Infinity` where the system does not say. */
export async function hardDescriptorLimit(): Promise<number> {
  const text = await readFile('/proc/self/limits', 'utf8').catch(() => '');
  return readHardLimit(text);
}

/** @param limits  What `/proc/self/limits` holds: `Max open files  1024  524288  files`. */
export function readHardLimit(limits: string): number {
  const hard = /^Max open files\s+\S+\s+(\d+)/m.exec(limits)?.[1];
  return hard === undefined ? Number.POSITIVE_INFINITY : Number(hard);
}
