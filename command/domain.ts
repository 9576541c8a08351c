/** `postern domain …` */
import { askCluster } from './admin-client.ts';
import { type CommandCall, exitCode } from './command.ts';

export async function add(call: CommandCall): Promise<number> {
  const { domain } = await askCluster<{ domain: string }>(call.where, {
    op: 'domain-add',
    domain: call.positionals[0]!,
  });
  call.print({ domain }, `${domain} added\n`);
  return exitCode.done;
}

export async function list(call: CommandCall): Promise<number> {
  const { domains } = await askCluster<{ domains: string[] }>(call.where, { op: 'domain-list' });
  call.print({ domains }, domains.map((domain) => `${domain}\n`).join(''));
  return exitCode.done;
}
