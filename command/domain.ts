/** `postern domain …` */
import { askCluster, whoAsks } from './admin-client.ts';
import { type CommandCall, exitCode } from './command.ts';

export async function add(call: CommandCall): Promise<number> {
  const { domain } = await askCluster<{ domain: string }>(call.where, {
    op: 'domain-add',
    domain: call.positionals[0]!,
    by: whoAsks(),
  });
  call.print({ domain }, `${domain} added\n`);
  return exitCode.done;
}

export async function remove(call: CommandCall): Promise<number> {
  const request = { op: 'domain-remove', domain: call.positionals[0]!, by: whoAsks() } as const;
  const { domain } = await askCluster<{ domain: string }>(call.where, request);
  call.print({ domain }, `${domain} removed\n`);
  return exitCode.done;
}

export async function list(call: CommandCall): Promise<number> {
  const { domains } = await askCluster<{ domains: string[] }>(call.where, { op: 'domain-list' });
  call.print({ domains }, domains.map((domain) => `${domain}\n`).join(''));
  return exitCode.done;
}
