/** `postern domain …` */
import { Fault } from '../base/fault.ts';
import { parseSize } from '../base/units.ts';
import type { DomainRecord } from '../cluster-protocol/domains.ts';
import { limitOf, parseCount } from './account.ts';
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
  const { domains, limits } = await askCluster<{ domains: string[]; limits: DomainRecord[] }>(call.where, {
    op: 'domain-list',
  });
  call.print({ domains, limits }, limits.map((record) => `${lineOf(record)}\n`).join(''));
  return exitCode.done;
}

/** Sets what the accounts of a domain may hold, and how many there may be. */
export async function quota(call: CommandCall): Promise<number> {
  const { bytes, messages, accounts } = call.values;
  if (bytes === undefined && messages === undefined && accounts === undefined)
    throw new Fault('bad-argument', 'domain quota: give --bytes, --messages or --accounts');
  const record = await askCluster<DomainRecord>(call.where, {
    ...{ op: 'domain-quota', domain: call.positionals[0]!, by: whoAsks() },
    ...(typeof bytes === 'string' ? { bytes: limitOf('--bytes', bytes, parseSize, '2GiB') } : {}),
    ...(typeof messages === 'string'
      ? { messages: limitOf('--messages', messages, parseCount, '10000') }
      : {}),
    ...(typeof accounts === 'string' ? { accounts: limitOf('--accounts', accounts, parseCount, '500') } : {}),
  });
  call.print(record, `${lineOf(record)}\n`);
  return exitCode.done;
}

function lineOf({ name, quotaBytes, quotaMessages, accountsMax }: DomainRecord): string {
  const said = [
    ...(quotaBytes === undefined ? [] : [`${quotaBytes === 0 ? 'no limit of' : quotaBytes} bytes each`]),
    ...(quotaMessages === undefined
      ? []
      : [`${quotaMessages === 0 ? 'no limit of' : quotaMessages} messages each`]),
    ...(accountsMax ? [`${accountsMax} accounts`] : []),
  ];
  return said.length === 0 ? name : `${name}: ${said.join(', ')}`;
}

/** The domain that was named, or all there are. */
export async function domainsAsked(call: CommandCall): Promise<readonly string[]> {
  const only = call.positionals[0];
  if (only !== undefined) return [only];
  return (await askCluster<{ domains: string[] }>(call.where, { op: 'domain-list' })).domains;
}
