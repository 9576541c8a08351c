/** `postern cluster …`: what only asks. */
import { Fault } from '../base/fault.ts';
import type { ChangeRecord } from '../cluster-protocol/change-history.ts';
import type { MoveRecord } from '../cluster-protocol/move-log.ts';
import { askCluster } from './admin-client.ts';
import { amount, type Why } from './cluster-facts.ts';
import { historyPerPageMax } from './cluster-requests.ts';
import { type CommandCall, exitCode } from './command.ts';
import type { ClusterStatus, MemberStatus } from './control.ts';
import type { UpgradeCheck } from './upgrade-check.ts';

const historyShownDefault = 50;

export async function status(call: CommandCall): Promise<number> {
  const found = await askCluster<ClusterStatus>(call.where, { op: 'cluster-status' });
  const byHand = [
    ...(found.pins > 0 ? [amount(found.pins, 'pinned account')] : []),
    ...(found.movedShards > 0 ? [`${amount(found.movedShards, 'shard')} kept by hand`] : []),
  ];
  const text = [
    `cluster     ${found.cluster}`,
    `storage     ${found.storageRoot}`,
    `domains     ${found.domains}`,
    `shards      ${found.shardCount}, ${found.freeShards} without an owner${byHand.map((words) => `, ${words}`).join('')}`,
    `moves       ${found.moves === 0 ? 'none' : `${found.moves} under way`}; newest epoch ${found.epoch}`,
    `controller  ${found.controller || 'none'}`,
    '',
    ...found.members.map(memberLine),
    '',
  ].join('\n');
  call.print(found, text);
  return exitCode.done;
}

function memberLine(member: MemberStatus): string {
  const state = !member.ready
    ? 'starting'
    : !member.registered
      ? 'without a lease'
      : member.drained
        ? 'drained'
        : 'serves';
  const words = [member.id.padEnd(12), state.padEnd(15), `pid ${member.pid ?? '-'}`];
  if (member.release !== '') words.push(`release ${member.release}`);
  if (member.versions !== undefined) words.push(`protocol ${member.versions.join('-')}`);
  if (member.restarts > 0) words.push(`restarts ${member.restarts}`);
  if (member.shards !== undefined) words.push(`shards ${member.shards}`);
  if (member.pins) words.push(`pinned ${member.pins}`);
  if (member.weight !== undefined && member.weight !== 1) words.push(`weight ${member.weight}`);
  if (member.sessions !== undefined) words.push(`sessions ${member.sessions}`);
  if (member.leaseLeftMs !== undefined) words.push(`lease ${(member.leaseLeftMs / 1000).toFixed(1)} s`);
  if (member.openAccounts !== undefined) words.push(`open accounts ${member.openAccounts}`);
  if (member.memoryBytes !== undefined)
    words.push(`memory ${Math.round(member.memoryBytes / 1024 ** 2)} MiB`);
  return words.join('  ');
}

interface WhyAnswer extends Why {
  readonly sessions?: number;
  readonly unknown?: string;
  readonly moves: readonly MoveRecord[];
}

export async function why(call: CommandCall): Promise<number> {
  const found = await askCluster<WhyAnswer>(call.where, {
    op: 'cluster-why',
    address: call.positionals[0]!,
  });
  const text = [
    `account     ${found.address}`,
    `shard       ${found.shard}`,
    `owner       ${found.owner || 'nobody'}${found.movingTo ? `, on its way to ${found.movingTo}` : ''}`,
    `epoch       ${found.epoch}`,
    `because     ${found.because}: ${found.words}`,
    `sessions    ${found.sessions ?? `not known: ${found.unknown}`}`,
    ...found.moves.map((move, index) => `${index === 0 ? 'moves' : ''}`.padEnd(12) + moveWords(move)),
    `if it goes  ${found.ifOwnerStopped}`,
    '',
  ].join('\n');
  call.print(found, text);
  return exitCode.done;
}

function moveWords({ atMs, shards, address, from, to, epoch }: MoveRecord): string {
  const what =
    address !== undefined
      ? 'the account'
      : shards![1] === 1
        ? `shard ${shards![0]}`
        : `shards ${shards![0]} to ${shards![0] + shards![1] - 1}`;
  return `${timeOf(atMs)}  ${what} from ${from || 'nobody'} to ${to || 'its shard'}, epoch ${epoch}`;
}

export async function checkUpgrade(call: CommandCall): Promise<number> {
  const found = await askCluster<UpgradeCheck>(call.where, { op: 'cluster-upgrade-check' });
  const text = [
    `release     ${found.release}, protocol ${found.protocol}`,
    ...found.members.map(
      ({ id, release, versions }) => `${id.padEnd(12)}release ${release}, protocol ${versions.join('-')}`,
    ),
    '',
    found.ready
      ? 'ready: members can be replaced one by one'
      : `not ready:\n${found.problems.map((problem) => `  ${problem}`).join('\n')}`,
    'next:',
    ...found.next.map((step) => `  ${step}`),
    '',
  ].join('\n');
  call.print(found, text);
  return found.ready ? exitCode.done : exitCode.failed;
}

export async function history(call: CommandCall): Promise<number> {
  const { changes } = await askCluster<{ changes: ChangeRecord[] }>(call.where, {
    op: 'cluster-history',
    countMax: countOf(call),
  });
  call.print({ changes }, changeLines(changes));
  return exitCode.done;
}

/** `--count`. @throws {Fault} `bad-argument` */
export function countOf(call: CommandCall): number {
  const asked = call.values.count;
  const count = asked === undefined ? historyShownDefault : Number(asked);
  if (Number.isSafeInteger(count) && count >= 1 && count <= historyPerPageMax) return count;
  throw new Fault('bad-argument', `"${asked}" is not a count from 1 to ${historyPerPageMax}; try --count 50`);
}

export function changeLines(changes: readonly ChangeRecord[]): string {
  return changes
    .map(
      ({ number, atMs, by, what }) =>
        `${String(number).padStart(5)}  ${timeOf(atMs)}  ${by.padEnd(12)}  ${what}\n`,
    )
    .join('');
}

const timeOf = (atMs: number): string => new Date(atMs).toISOString().slice(0, 19).replace('T', ' ');
