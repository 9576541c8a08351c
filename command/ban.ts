/** `postern ban …` */
import { Fault } from '../base/fault.ts';
import { formatDuration, parseDuration } from '../base/units.ts';
import { askCluster, whoAsks } from './admin-client.ts';
import { type CommandCall, exitCode } from './command.ts';
import type { ShownBan } from './settings-work.ts';

export async function add(call: CommandCall): Promise<number> {
  const { for: written, why } = call.values;
  const forMs = typeof written === 'string' ? parseDuration(written) : undefined;
  if (written !== undefined && (forMs === undefined || forMs < 1000))
    throw new Fault(
      'bad-argument',
      `ban add: "${written}" is not a duration of a second or more; try --for 1h`,
    );
  const ban = await askCluster<ShownBan>(call.where, {
    op: 'ban-add',
    network: call.positionals[0]!,
    by: whoAsks(),
    ...(forMs === undefined ? {} : { forMs }),
    ...(typeof why === 'string' ? { why } : {}),
  });
  call.print(ban, `${ban.network} is banned${forMs === undefined ? '' : ` for ${formatDuration(forMs)}`}\n`);
  return exitCode.done;
}

export async function list(call: CommandCall): Promise<number> {
  const { bans } = await askCluster<{ bans: ShownBan[] }>(call.where, { op: 'ban-list' });
  const line = ({ network, by, atMs, untilMs, why }: ShownBan): string =>
    [
      network.padEnd(24),
      `since ${timeOf(atMs)}`,
      `until ${untilMs === undefined ? 'removed' : timeOf(untilMs)}`,
      `by ${by || '-'}`,
      ...(why === undefined ? [] : [why]),
    ].join('  ');
  call.print({ bans }, bans.map((ban) => `${line(ban)}\n`).join(''));
  return exitCode.done;
}

export async function remove(call: CommandCall): Promise<number> {
  const network = call.positionals[0]!;
  const done = await askCluster<{ network: string }>(call.where, {
    op: 'ban-remove',
    network,
    by: whoAsks(),
  });
  call.print(done, `${done.network} may connect again\n`);
  return exitCode.done;
}

const timeOf = (atMs: number): string => new Date(atMs).toISOString().slice(0, 19).replace('T', ' ');
