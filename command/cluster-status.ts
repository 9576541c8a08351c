/** `postern cluster status`: what the registry, this machine's processes and the backends themselves say, in one answer. */
import { registryKey } from '../cluster-protocol/registry.ts';
import { isDrained } from '../cluster-protocol/wishes.ts';
import { askMember } from './account-work.ts';
import type { AdminServerOptions } from './admin-server.ts';
import { backendsOf, heldBy, readFacts, unsettled } from './cluster-facts.ts';
import type { ClusterStatus, MemberStatus } from './control.ts';

export async function clusterStatus(options: AdminServerOptions): Promise<ClusterStatus> {
  const { registry, router, cluster } = options;
  const [facts, domains] = await Promise.all([readFacts(registry), registry.list(registryKey.domainPrefix)]);
  const here = options.members();
  const elsewhere = [...facts.members.values()].filter(({ id }) => !here.some((member) => member.id === id));
  const members = await Promise.all(
    [
      ...here,
      // Of other machines the registry tells: registered there means serving.
      ...elsewhere.map(({ id, role, pid }) => ({ id, role, pid, isReady: true, restarts: 0 })),
    ].map(async (member): Promise<MemberStatus> => {
      const record = facts.members.get(member.id);
      const base = {
        id: member.id,
        role: member.role,
        pid: member.pid,
        ready: member.isReady,
        restarts: member.restarts,
        registered: record !== undefined,
        address: record?.address ?? '',
        release: record?.release ?? '',
        ...(record === undefined ? {} : { versions: record.versions }),
      };
      if (member.role === 'gateway') return base;
      const own = (await askMember(router, member.id, { op: 'status' }).catch(() => ({}))) as {
        openAccounts?: number;
        memoryBytes?: number;
        sessions?: number;
        leaseLeftMs?: number;
      };
      const { shards, pins } = heldBy(facts, member.id);
      const drained = record !== undefined && isDrained(facts.wishes, member.id, record.incarnation);
      const weight = (record?.weight ?? 1) * (facts.wishes.tilts.get(member.id) ?? 1);
      return { ...base, shards, pins, weight, drained, ...own };
    }),
  );
  const { moves, free } = unsettled(facts);
  return {
    cluster: cluster.id,
    shardCount: cluster.shardCount,
    storageRoot: options.storageRoot,
    controller: facts.controller,
    freeShards: facts.map === undefined ? cluster.shardCount : free,
    moves,
    epoch: (facts.map?.nextEpoch ?? 1) - 1,
    pins: facts.map?.pins.size ?? 0,
    movedShards: facts.wishes.shards.size,
    domains: domains.entries.length,
    backends: backendsOf(facts).length,
    members,
  };
}
