/** `postern cluster …` */
import { askCluster } from './admin-client.ts';
import { type CommandCall, exitCode } from './command.ts';
import type { ClusterStatus, MemberStatus } from './control.ts';

export async function status(call: CommandCall): Promise<number> {
  const found = await askCluster<ClusterStatus>(call.where, { op: 'cluster-status' });
  const text = [
    `cluster     ${found.cluster}`,
    `storage     ${found.storageRoot}`,
    `domains     ${found.domains}`,
    `shards      ${found.shardCount}, ${found.freeShards} without an owner`,
    `controller  ${found.controller || 'none'}`,
    '',
    ...found.members.map(memberLine),
    '',
  ].join('\n');
  call.print(found, text);
  return exitCode.done;
}

function memberLine(member: MemberStatus): string {
  const words = [
    member.id.padEnd(12),
    (member.ready && member.registered ? 'serves' : member.ready ? 'without a lease' : 'starting').padEnd(15),
    `pid ${member.pid ?? '-'}`,
  ];
  if (member.restarts > 0) words.push(`restarts ${member.restarts}`);
  if (member.shards !== undefined) words.push(`shards ${member.shards}`);
  if (member.openAccounts !== undefined) words.push(`open accounts ${member.openAccounts}`);
  if (member.memoryBytes !== undefined)
    words.push(`memory ${Math.round(member.memoryBytes / 1024 ** 2)} MiB`);
  return words.join('  ');
}
