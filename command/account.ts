/** `postern account …` */
import { Fault } from '../base/fault.ts';
import { parseSize } from '../base/units.ts';
import { adoptedDirectory, adoptInto, holdingText } from './account-maintenance.ts';
import { askCluster } from './admin-client.ts';
import { type CommandCall, exitCode } from './command.ts';
import { type AccountPage, accountsPerPageMax } from './control.ts';
import { domainsAsked } from './domain.ts';
import { chooseSecret } from './password.ts';

interface Summary {
  readonly address: string;
  readonly createdAt: string;
  readonly quotaBytes: number;
  readonly quotaMessages: number;
  readonly usedBytes: number;
  readonly messages: number;
}

export async function add(call: CommandCall): Promise<number> {
  const address = call.positionals[0]!;
  const quota = quotaOf(call);
  const directory = adoptedDirectory(call);
  const { given, made } = await chooseSecret(call);
  const summary = await askCluster<Summary>(call.where, {
    op: 'account-add',
    address,
    ...given,
    ...(quota === undefined ? {} : { quotaBytes: quota }),
  });
  const added = { ...summary, ...(made === undefined ? {} : { password: made }) };
  const text = `${summary.address} added\n${made === undefined ? '' : `password: ${made}\n`}`;
  if (directory === undefined) {
    call.print(added, text);
    return exitCode.done;
  }
  try {
    const holding = await adoptInto(call, address, directory);
    call.print({ ...added, ...holding }, text + holdingText(holding));
    return exitCode.done;
  } catch (error) {
    // There is an account now, and perhaps a password nobody has seen.
    call.print(added, text);
    const fault = Fault.from(error);
    throw new Fault(
      fault.code,
      `${fault.message}; the account has no mail yet: mend this, then "postern account adopt ${address} ${directory}"`,
      { cause: error },
    );
  }
}

/** Prints page by page: a domain may have millions. */
export async function list(call: CommandCall): Promise<number> {
  const all: string[] = [];
  for (const domain of await domainsAsked(call)) {
    let after: string | undefined;
    for (;;) {
      const page: AccountPage = await askCluster(call.where, {
        op: 'account-list',
        domain,
        countMax: accountsPerPageMax,
        ...(after === undefined ? {} : { after }),
      });
      if (call.json) all.push(...page.accounts);
      else call.print(undefined, page.accounts.map((address) => `${address}\n`).join(''));
      after = page.accounts.at(-1);
      if (!page.more || after === undefined) break;
    }
  }
  if (call.json) call.print({ accounts: all }, '');
  return exitCode.done;
}

export async function show(call: CommandCall): Promise<number> {
  const summary = await askCluster<Summary>(call.where, {
    op: 'account-show',
    address: call.positionals[0]!,
  });
  call.print(summary, summaryText(summary));
  return exitCode.done;
}

function summaryText(summary: Summary): string {
  const quota = [
    ...(summary.quotaBytes === 0 ? [] : [`${summary.quotaBytes} bytes`]),
    ...(summary.quotaMessages === 0 ? [] : [`${summary.quotaMessages} messages`]),
  ];
  return [
    summary.address,
    `  created   ${summary.createdAt}`,
    `  messages  ${summary.messages}`,
    `  used      ${summary.usedBytes} bytes`,
    `  quota     ${quota.join(', ') || 'none'}`,
    '',
  ].join('\n');
}

/** Sets what an account may hold. */
export async function quota(call: CommandCall): Promise<number> {
  const { bytes, messages } = call.values;
  if (bytes === undefined && messages === undefined)
    throw new Fault('bad-argument', 'account quota: give --bytes or --messages, or both');
  const summary = await askCluster<Summary>(call.where, {
    op: 'account-quota',
    address: call.positionals[0]!,
    ...(typeof bytes === 'string' ? { bytes: limitOf('--bytes', bytes, parseSize, '2GiB') } : {}),
    ...(typeof messages === 'string'
      ? { messages: limitOf('--messages', messages, parseCount, '10000') }
      : {}),
  });
  call.print(summary, summaryText(summary));
  return exitCode.done;
}

/** @returns `null` for "default", 0 for "none". @throws {Fault} `bad-argument` */
export function limitOf(
  option: string,
  text: string,
  parse: (text: string) => number | undefined,
  example: string,
): number | null {
  if (text === 'default') return null;
  const value = text === 'none' ? 0 : parse(text);
  if (value === undefined)
    throw new Fault('bad-argument', `${option}: "${text}" is none of "${example}", "none", "default"`);
  return value;
}

export function parseCount(text: string): number | undefined {
  return /^\d{1,15}$/.test(text) ? Number(text) : undefined;
}

export async function passwd(call: CommandCall): Promise<number> {
  const address = call.positionals[0]!;
  const { given, made } = await chooseSecret(call);
  await askCluster(call.where, { op: 'account-passwd', address, ...given });
  call.print(
    { address, ...(made === undefined ? {} : { password: made }) },
    `password of ${address} set\n${made === undefined ? '' : `password: ${made}\n`}`,
  );
  return exitCode.done;
}

export async function remove(call: CommandCall): Promise<number> {
  const address = call.positionals[0]!;
  await askCluster(call.where, { op: 'account-remove', address });
  call.print(
    { address, removed: true },
    `${address} removed; its directory is in "removed" of the storage root\n`,
  );
  return exitCode.done;
}

function quotaOf(call: CommandCall): number | undefined {
  const text = call.values.quota;
  if (typeof text !== 'string') return undefined;
  const bytes = parseSize(text);
  if (bytes === undefined) throw new Fault('bad-argument', `--quota: "${text}" is not a size; try "2GiB"`);
  return bytes;
}
