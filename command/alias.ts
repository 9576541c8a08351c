/** `postern alias …` */
import { askCluster } from './admin-client.ts';
import { type CommandCall, exitCode } from './command.ts';
import { accountsPerPageMax } from './control.ts';
import { domainsAsked } from './domain.ts';

interface Alias {
  readonly address: string;
  readonly targets: readonly string[];
}

const lineOf = ({ address, targets }: Alias): string => `${address}: ${targets.join(', ') || 'removed'}\n`;

export async function add(call: CommandCall): Promise<number> {
  const [address, target] = call.positionals as [string, string];
  const alias = await askCluster<Alias>(call.where, { op: 'alias-add', address, target });
  call.print(alias, lineOf(alias));
  return exitCode.done;
}

export async function remove(call: CommandCall): Promise<number> {
  const [address, target] = call.positionals as [string, string | undefined];
  const alias = await askCluster<Alias>(call.where, {
    ...{ op: 'alias-remove', address },
    ...(target === undefined ? {} : { target }),
  });
  call.print(alias, lineOf(alias));
  return exitCode.done;
}

/** Page by page, as accounts are. */
export async function list(call: CommandCall): Promise<number> {
  const all: Alias[] = [];
  for (const domain of await domainsAsked(call)) {
    for (let after: string | undefined; ; ) {
      const page = await askCluster<{ aliases: Alias[]; more: boolean }>(call.where, {
        ...{ op: 'alias-list', domain, countMax: accountsPerPageMax },
        ...(after === undefined ? {} : { after }),
      });
      if (call.json) all.push(...page.aliases);
      else process.stdout.write(page.aliases.map(lineOf).join(''));
      after = page.aliases.at(-1)?.address;
      if (!page.more || after === undefined) break;
    }
  }
  if (call.json) call.print({ aliases: all }, '');
  return exitCode.done;
}
