/** `postern account adopt`, `check`, `convert`, `release`, `resume`, and the adopting part of `account add`. */
import path from 'node:path';
import { Fault } from '../base/fault.ts';
import type { MaintenanceTask } from '../cluster-protocol/maintenance.ts';
import { askCluster } from './admin-client.ts';
import { type CommandCall, exitCode } from './command.ts';

/** What an opened account holds. */
export interface Holding {
  readonly folders: number;
  readonly messages: number;
  readonly bytes: number;
}

interface Finding {
  readonly kind: 'note' | 'damage';
  readonly folder: string;
  readonly file?: string;
  readonly text: string;
  readonly repaired?: string;
}

interface CheckReport {
  readonly folders: number;
  readonly messages: number;
  readonly damage: number;
  readonly repaired: number;
  readonly findings: readonly Finding[];
  readonly more: number;
}

export async function adopt(call: CommandCall): Promise<number> {
  const [address, directory] = call.positionals;
  const holding = await adoptInto(call, address!, path.resolve(directory!));
  call.print({ address, ...holding }, `${address}\n${holdingText(holding)}`);
  return exitCode.done;
}

export function adoptInto(call: CommandCall, address: string, directory: string): Promise<Holding> {
  return ask(call, address, { kind: 'adopt', directory });
}

export function holdingText({ folders, messages }: Holding): string {
  return `adopted: ${folders} folders, ${messages} messages\n`;
}

/** The directory of `--adopt`, absolute. */
export function adoptedDirectory(call: CommandCall): string | undefined {
  return typeof call.values.adopt === 'string' ? path.resolve(call.values.adopt) : undefined;
}

/** Exit code 1 while there is damage that was not mended. */
export async function check(call: CommandCall): Promise<number> {
  const address = call.positionals[0]!;
  const report = await ask<CheckReport>(call, address, {
    kind: 'check',
    deep: call.values.deep === true,
    repair: call.values.repair === true,
  });
  const lines = report.findings.map((finding) => `${lineOf(finding)}\n`);
  if (report.more > 0) lines.push(`… and ${report.more} more\n`);
  lines.push(
    `${address}: ${report.folders} folders, ${report.messages} messages, ${report.damage} damaged, ${report.repaired} repaired\n`,
  );
  call.print({ address, ...report }, lines.join(''));
  return report.damage > report.repaired ? exitCode.failed : exitCode.done;
}

function lineOf({ kind, folder, file, text, repaired }: Finding): string {
  const where = file ?? (folder === '' ? 'account' : folder);
  return `${kind === 'damage' ? 'DAMAGE' : 'note  '} ${where}: ${text}${repaired === undefined ? '' : ` (${repaired})`}`;
}

export async function convert(call: CommandCall): Promise<number> {
  const address = call.positionals[0]!;
  const { to, folder } = call.values;
  if (to !== 'maildir' && to !== 'mbox') {
    throw new Fault('bad-argument', 'say which format: --to maildir, or --to mbox');
  }
  const report = await ask<{ folders: readonly { name: string; messages: number; converted: boolean }[] }>(
    call,
    address,
    { kind: 'convert', to, ...(typeof folder === 'string' ? { folder } : {}) },
  );
  const lines = report.folders.map(({ name, messages, converted }) =>
    converted ? `${name}: ${messages} messages, now ${to}\n` : `${name}: was ${to} already\n`,
  );
  call.print({ address, to, ...report }, lines.join(''));
  return exitCode.done;
}

export async function release(call: CommandCall): Promise<number> {
  const address = call.positionals[0]!;
  const report = await ask<{ folders: number; messages: number; keywordsLost: readonly string[] }>(
    call,
    address,
    {
      kind: 'release',
    },
  );
  const lines = [
    `${address} released: ${report.folders} folders, ${report.messages} messages`,
    'Postern leaves it alone until "postern account resume".',
    ...report.keywordsLost.map((keyword) => `keyword without a letter, unknown to Dovecot: ${keyword}`),
    '',
  ];
  call.print({ address, ...report }, lines.join('\n'));
  return exitCode.done;
}

export async function resume(call: CommandCall): Promise<number> {
  const address = call.positionals[0]!;
  const holding = await ask<Holding>(call, address, { kind: 'resume' });
  call.print(
    { address, ...holding },
    `${address} resumed: ${holding.folders} folders, ${holding.messages} messages\n`,
  );
  return exitCode.done;
}

function ask<T>(call: CommandCall, address: string, task: MaintenanceTask): Promise<T> {
  return askCluster<T>(call.where, { op: 'account-maintain', address, task });
}
