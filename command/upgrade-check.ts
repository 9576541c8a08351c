/**
 * Can the members be replaced by the next version one after another, while the
 * others serve? A member speaks its protocol version and the one before it, so
 * the next version understands everybody who speaks today's. Pure.
 */
import { release } from '../base/release.ts';
import { type MemberRecord, protocolVersion } from '../cluster-protocol/link.ts';
import { isDrained } from '../cluster-protocol/wishes.ts';
import { backendsOf, type ClusterFacts, takers, unsettled } from './cluster-facts.ts';

export interface UpgradeCheck {
  readonly ready: boolean;
  /** This program's. */
  readonly release: string;
  readonly protocol: number;
  readonly members: readonly {
    readonly id: string;
    readonly role: string;
    readonly release: string;
    readonly versions: readonly [number, number];
  }[];
  /** What stands in the way; empty when nothing does. */
  readonly problems: readonly string[];
  /** In the order to do it. */
  readonly next: readonly string[];
}

export function upgradeCheck(facts: ClusterFacts): UpgradeCheck {
  const members = [...facts.members.values()].sort((a, b) => (a.id < b.id ? -1 : 1));
  const backends = backendsOf(facts);
  const problems: string[] = [];
  const next: string[] = [];
  const block = (problem: string, remedy: string): void => {
    problems.push(problem);
    next.push(remedy);
  };
  for (const { id, versions } of members)
    if (versions[1] < protocolVersion)
      block(
        `${id} speaks protocol ${versions[0]} to ${versions[1]}; the next version will not understand it`,
        `bring ${id} to this release first: postern member restart ${id}`,
      );
  if (facts.controller === '') block('there is no controller', 'wait until a backend is elected');
  const { moves, free } = unsettled(facts);
  if (free > 0) block(`${free} shards have no owner`, 'wait for the controller, or start a backend');
  if (moves > 0) block(`${moves} moves are under way`, 'wait until "postern cluster status" shows none');
  for (const { id, incarnation } of backends)
    if (isDrained(facts.wishes, id, incarnation))
      block(`${id} is drained and takes nothing over`, `postern cluster undrain ${id}`);
  if (takers(facts).length < 2)
    block(
      'fewer than two backends take shards: a restart would leave accounts without an owner',
      'add a backend (backend.count)',
    );
  const gateways = members.filter(({ role }) => role === 'gateway');
  if (gateways.length < 2)
    block(
      'there is only one gateway: while it restarts nobody takes connections',
      'add a gateway (gateway.count)',
    );
  if (problems.length === 0) {
    const behind = members.filter((member) => member.release !== release);
    const order = (behind.length > 0 ? behind : members).toSorted(byRole);
    next.push(
      'install the new version on one machine',
      ...order.map(({ id }) => `postern member restart ${id}`),
    );
  }
  return {
    ...{ ready: problems.length === 0, release, protocol: protocolVersion, problems, next },
    members: members.map(({ id, role, release: its, versions }) => ({ id, role, release: its, versions })),
  };
}

/** Backends first: a gateway of the old version knows what they speak. */
function byRole(a: MemberRecord, b: MemberRecord): number {
  return a.role === b.role ? 0 : a.role === 'backend' ? -1 : 1;
}
