/**
 * Taking away the leases of members that are known to be dead, so that their
 * shards need not wait for the leases to run out. Only a process that no longer
 * exists may be treated so: it cannot act (DESIGN section 1, supervisor).
 */
import { readdirSync, readFileSync, readlinkSync } from 'node:fs';
import { errnoOf } from '../base/fault.ts';
import type { MemberRecord } from './link.ts';
import { type Registry, registryKey } from './registry.ts';

/**
 * Revokes the lease of a member whose process the caller has reaped.
 * @returns Whether there was one.
 */
export async function revokeMember(registry: Registry, memberId: string): Promise<boolean> {
  const entry = await registry.get(registryKey.member(memberId));
  if (entry?.lease === undefined) return false;
  await registry.revokeLease(entry.lease);
  return true;
}

/**
 * This process, named so that nobody else is ever taken for it: boot, PID namespace, PID and start time.
 * Empty where /proc does not tell; such a member is never revoked this way.
 */
export function processIdentity(pid: number = process.pid): string {
  try {
    const boot = readFileSync('/proc/sys/kernel/random/boot_id', 'latin1').trim();
    const namespace = readlinkSync('/proc/self/ns/pid');
    return `${boot} ${namespace} ${pid} ${startTimeOf(pid)}`;
  } catch {
    return '';
  }
}

/**
 * Is the process with this identity certainly gone? Identities of another boot or another PID namespace cannot
 * be judged from here (a data directory may have been carried to another machine): their leases have to run out.
 */
export function isProcessGone(identity: string): boolean {
  const own = processIdentity().split(' ');
  const [boot, namespace, pid, startTime] = identity.split(' ');
  if (own.length !== 4 || boot !== own[0] || namespace !== own[1] || !/^\d{1,10}$/.test(pid ?? ''))
    return false;
  try {
    return startTimeOf(Number(pid)) !== startTime || hasEnded(Number(pid));
  } catch (error) {
    return errnoOf(error) === 'ENOENT';
  }
}

/**
 * After a restart of the supervisor: revokes the leases of members whose processes went with the old one.
 * @returns Their ids.
 */
export async function revokeGoneMembers(registry: Registry): Promise<string[]> {
  const gone: string[] = [];
  for (const entry of (await registry.list(registryKey.memberPrefix)).entries) {
    let record: Partial<MemberRecord>;
    try {
      record = JSON.parse(entry.value);
    } catch {
      continue;
    }
    if (!record.process || entry.lease === undefined || !isProcessGone(record.process)) continue;
    await registry.revokeLease(entry.lease);
    gone.push(entry.key.slice(registryKey.memberPrefix.length));
  }
  return gone;
}

/**
 * proc(5), state Z: it has ended, and only its parent has not asked for the exit code. The other threads of a killed
 * process may outlive the first one in a call to the disk: it has ended when no other is left.
 */
function hasEnded(pid: number): boolean {
  const stat = readFileSync(`/proc/${pid}/stat`, 'latin1');
  const state = stat.charAt(stat.lastIndexOf(')') + 2);
  return state === 'Z' && readdirSync(`/proc/${pid}/task`).length <= 1;
}

/** proc(5): field 22 of /proc/PID/stat; the second field, in parentheses, may hold anything. */
function startTimeOf(pid: number): string {
  const stat = readFileSync(`/proc/${pid}/stat`, 'latin1');
  return stat.slice(stat.lastIndexOf(')') + 2).split(' ')[19] ?? '';
}
