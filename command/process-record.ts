/**
 * Which processes serve a data directory, written down so that the next
 * supervisor can name the one that runs, or end what a killed one left behind.
 * The lock itself is the kernel's, on the registry's file: this is only paper.
 */
import { readFile } from 'node:fs/promises';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { writeDurably } from '../base/durable-file.ts';
import { Fault } from '../base/fault.ts';
import type { MemberRecord } from '../cluster-protocol/link.ts';
import { type Registry, registryKey } from '../cluster-protocol/registry.ts';
import { isProcessGone, processIdentity } from '../cluster-protocol/revoke.ts';

/** A killed process is gone in milliseconds, unless its disk hangs. */
const goneMsMax = 5000;

interface ProcessRecordFile {
  readonly supervisor: string;
  readonly members: Readonly<Record<string, string>>;
}

export class ProcessRecord {
  readonly #file: string;
  readonly #members = new Map<string, string>();
  #writing: Promise<void> = Promise.resolve();
  #pending = false;

  constructor(data: string) {
    this.#file = path.join(data, 'processes.json');
  }

  /** The pid of the supervisor that the record names, when that very process still runs. */
  async runningSupervisor(): Promise<number | undefined> {
    const before = await this.#read();
    return before === undefined ? undefined : livePid(before.supervisor);
  }

  /**
   * Ends members of an earlier supervisor, those the record names and those of `others`; resolves when they are gone.
   * Call it only while holding the lock.
   * @throws {Fault} `already-running` when one does not end.
   */
  async endLeftovers(others: readonly string[]): Promise<void> {
    const before = await this.#read();
    const identities = new Set([...Object.values(before?.members ?? {}), ...others]);
    const end = performance.now() + goneMsMax;
    for (const identity of identities) {
      const pid = livePid(identity);
      if (pid === undefined || pid === process.pid) continue;
      try {
        process.kill(pid, 'SIGKILL');
      } catch {}
    }
    for (const identity of identities) {
      while (livePid(identity) !== undefined) {
        if (performance.now() > end)
          throw new Fault(
            'already-running',
            `process ${livePid(identity)} of an earlier start does not end; wait for its disk or end it`,
          );
        await sleep(5);
      }
    }
  }

  note(memberId: string, pid: number): void {
    this.#members.set(memberId, processIdentity(pid));
    this.write();
  }

  /** Writes what is known now; calls while a write runs become one. */
  write(): void {
    if (this.#pending) return;
    this.#pending = true;
    this.#writing = this.#writing
      .then(async () => {
        this.#pending = false;
        const record: ProcessRecordFile = {
          supervisor: processIdentity(),
          members: Object.fromEntries(this.#members),
        };
        await writeDurably(this.#file, `${JSON.stringify(record)}\n`, 0o600);
      })
      .catch(() => {}); // only paper: the registry's own records say the same
  }

  async written(): Promise<void> {
    await this.#writing;
  }

  async #read(): Promise<ProcessRecordFile | undefined> {
    try {
      const raw = JSON.parse(await readFile(this.#file, 'utf8')) as Partial<ProcessRecordFile>;
      const members = Object.entries(raw.members ?? {}).filter((pair) => typeof pair[1] === 'string');
      return { supervisor: String(raw.supervisor ?? ''), members: Object.fromEntries(members) };
    } catch {
      return undefined;
    }
  }
}

/**
 * Identities of the processes the registry names as members.
 * @param machine  Of several: only this one's; another may run on the same host.
 */
export async function memberProcesses(registry: Registry, machine: string | undefined): Promise<string[]> {
  try {
    const { entries } = await registry.list(registryKey.memberPrefix);
    return entries.flatMap(({ value }) => {
      const record = JSON.parse(value) as Partial<MemberRecord>;
      return machine !== undefined && record.machine !== machine ? [] : [record.process ?? ''];
    });
  } catch (error) {
    // etcd is away: the record on paper has to do.
    if (machine === undefined) throw error;
    return [];
  }
}

/** The pid of an identity, while a process with exactly this identity runs. */
function livePid(identity: string): number | undefined {
  const pid = Number(identity.split(' ')[2]);
  if (!Number.isSafeInteger(pid) || pid <= 1 || isProcessGone(identity)) return undefined;
  return processIdentity(pid) === identity ? pid : undefined;
}
