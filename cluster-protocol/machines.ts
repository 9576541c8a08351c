/**
 * The machines of a cluster. A machine is in while its record stands in the
 * registry with the id it was given when it joined; its certificate names both.
 * `postern cluster leave` removes the record, and every member that follows the
 * list refuses the certificate from that moment: a list of who is in cannot
 * miss anybody, as a list of who is out can.
 */
import { Fault } from '../base/fault.ts';
import type { Log } from '../base/log.ts';
import { follow } from './registry/follow.ts';
import { type Registry, type RegistryEntry, registryKey } from './registry.ts';

/** `machine/<name>` in the registry. */
export interface MachineRecord {
  readonly name: string;
  /** 32 hex digits, made when it joined. */
  readonly id: string;
  /** It has the key of the CA: it answers requests for certificates. */
  readonly signer: boolean;
  /** Wall clock, for people. */
  readonly joinedMs: number;
}

/** What a machine knows of itself: `machine.json` in the data directory. */
export interface MachineIdentity {
  readonly cluster: string;
  readonly machine: string;
  readonly id: string;
}

/** @returns `undefined` for what is no record this version can read. */
export function readMachineRecord(text: string): MachineRecord | undefined {
  try {
    const raw = JSON.parse(text) as Partial<MachineRecord>;
    const { name, id, signer, joinedMs } = raw;
    if (typeof name !== 'string' || typeof id !== 'string') return undefined;
    return { name, id, signer: signer === true, joinedMs: Number(joinedMs) || 0 };
  } catch {
    return undefined;
  }
}

/** The record of this machine, as the registry has it now. @throws {Fault} `bad-config` when it is not in. */
export async function needMachine(registry: Registry, self: MachineIdentity): Promise<MachineRecord> {
  const entry = await registry.get(registryKey.machine(self.machine));
  const record = entry && readMachineRecord(entry.value);
  if (record?.id === self.id) return record;
  throw notInCluster(self);
}

export function notInCluster(self: MachineIdentity): Fault {
  return new Fault(
    'bad-config',
    `machine ${self.machine} is not in cluster ${self.cluster} (any more); have it join with "postern cluster join"`,
  );
}

/** Follows the list of machines. */
export class Machines {
  readonly #ids = new Map<string, string>();
  readonly #listeners = new Set<() => void>();
  readonly #listed = Promise.withResolvers<void>();

  constructor(registry: Registry, log: Log, signal: AbortSignal) {
    follow(
      registry,
      [registryKey.machinePrefix],
      {
        reset: (entries) => {
          this.#ids.clear();
          for (const entry of entries) this.#put(entry);
          this.#listed.resolve();
          this.#tell();
        },
        event: (event) => {
          if (event.kind === 'put') this.#put(event);
          else this.#ids.delete(event.key.slice(registryKey.machinePrefix.length));
          this.#tell();
        },
        trouble: (error) => log.warn({ error: Fault.from(error).message }, 'the machines cannot be read'),
      },
      signal,
    );
  }

  /** Resolves when the list was read once. */
  listed(): Promise<void> {
    return this.#listed.promise;
  }

  /** Is the machine in? `id` undefined: whatever its id. */
  has(name: string, id?: string): boolean {
    const known = this.#ids.get(name);
    return known !== undefined && (id === undefined || known === id);
  }

  /** Does a certificate with these names (as Node prints them) speak for a machine of this cluster? */
  speaksFor(subjectAltName: string, cluster: string): boolean {
    for (const [, name, id] of subjectAltName.matchAll(
      /\bURI:urn:postern:[^:,\s]+:([a-z0-9-]+):([0-9a-f]{32})\b/g,
    )) {
      if (subjectAltName.includes(`urn:postern:${cluster}:${name}:${id}`) && this.has(name!, id)) return true;
    }
    return false;
  }

  /** Called after every change. */
  onChange(listener: () => void): void {
    this.#listeners.add(listener);
  }

  #put({ key, value }: Pick<RegistryEntry, 'key' | 'value'>): void {
    const name = key.slice(registryKey.machinePrefix.length);
    const record = readMachineRecord(value);
    if (record === undefined) this.#ids.delete(name);
    else this.#ids.set(name, record.id);
  }

  #tell(): void {
    for (const listener of this.#listeners) listener();
  }
}
