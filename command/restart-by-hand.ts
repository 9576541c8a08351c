/**
 * `postern member restart`: what a backend has is elsewhere while its process is
 * ended and started, so nobody takes it for dead and no lease has to run out.
 */
import { Fault } from '../base/fault.ts';
import type { Log } from '../base/log.ts';
import type { Registry } from '../cluster-protocol/registry.ts';
import { endHandOver, handOver } from './hand-over.ts';
import type { MemberProcess, MemberRole } from './member-process.ts';

const handOverMs = 60_000;

export interface RestartOptions {
  readonly registry: Registry;
  /** Of this machine. */
  readonly members: readonly MemberProcess[];
  readonly log: Log;
  /** How long a process may take to end. */
  readonly stopMs: Readonly<Record<MemberRole, number>>;
  /** Is it still to be started, once it has ended? */
  wanted(): boolean;
}

/** Members that are being restarted now. */
const underWay = new Set<MemberProcess>();

/** @throws {Fault} `bad-argument`, `busy`, `unavailable` */
export async function restartByHand(
  { registry, members, log, stopMs, wanted }: RestartOptions,
  id: string,
  by: string,
): Promise<{ readonly tookMs: number }> {
  const startedAtMs = performance.now();
  const member = members.find((one) => one.id === id);
  if (member === undefined) {
    const ids = members.map((one) => one.id).join(', ');
    throw new Fault('bad-argument', `there is no member "${id}" on this machine; there is: ${ids}`);
  }
  if (underWay.has(member)) throw new Fault('busy', `${id} is being restarted already`);
  underWay.add(member);
  try {
    if (member.role === 'backend') {
      const { left, alone } = await handOver(registry, [id], by, handOverMs);
      if (alone) log.warn({ name: id }, 'no other backend takes its accounts while it restarts');
      else if (left > 0)
        throw new Fault(
          'unavailable',
          `${id} still has ${left} shards after a minute and was not ended; its log says why`,
        );
    }
    await member.restart(stopMs[member.role], wanted);
  } finally {
    underWay.delete(member);
    await endHandOver(registry, id).catch((error: unknown) =>
      log.error({ name: id, error: Fault.from(error).message }, 'drain not taken back'),
    );
  }
  return { tookMs: Math.round(performance.now() - startedAtMs) };
}
