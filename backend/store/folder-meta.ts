/**
 * `postern-folder.json` in a folder's directory: what must survive although no
 * message file says it. It is rewritten when a reserved block of UIDs is used
 * up, not with every message: after an unclean end the rest of the block is
 * skipped, so that no UID is ever given twice.
 */
import { randomBytes } from 'node:crypto';
import path from 'node:path';
import { readWhole, replaceDurably } from './files.ts';
import type { SpecialUse } from './store.ts';

export interface FolderMeta {
  /** RFC 8474 MAILBOXID. */
  readonly mailboxId: string;
  readonly uidValidity: number;
  /** No UID from here on was ever given. */
  readonly uidReserved: number;
  /** No modification sequence from here on was ever given. */
  readonly modseqReserved: number;
  readonly specialUse?: SpecialUse | undefined;
  /**
   * Dovecot's files of this folder are to be taken over before anything else: it was handed back to Dovecot, or the
   * taking over has not ended. `modseq`: the sequence every message gets; 1: not begun.
   */
  readonly takeOver?: { readonly modseq: number } | undefined;
}

export const uidBlock = 1000;
export const modseqBlock = 100_000;
export const metaName = 'postern-folder.json';

const specialUses: readonly string[] = [
  'all',
  'archive',
  'drafts',
  'flagged',
  'junk',
  'sent',
  'trash',
  'important',
];

export function newMeta(uidValidity: number, specialUse?: SpecialUse): FolderMeta {
  return {
    mailboxId: randomBytes(10).toString('hex'),
    uidValidity,
    uidReserved: 1 + uidBlock,
    modseqReserved: 1 + modseqBlock,
    specialUse,
  };
}

/** `undefined`: there is none, or it is not readable as one. */
export async function readMeta(directory: string): Promise<FolderMeta | undefined> {
  const text = (await readWhole(path.join(directory, metaName)))?.toString();
  if (text === undefined) return undefined;
  try {
    const raw = JSON.parse(text) as Record<string, unknown>;
    const { mailboxId, uidValidity, uidReserved, modseqReserved, specialUse, takeOver } = raw;
    const good =
      typeof mailboxId === 'string' &&
      /^[0-9a-f]{20}$/.test(mailboxId) &&
      isCount(uidValidity, 0xffffffff) &&
      isCount(uidReserved, 0xffffffff) &&
      isCount(modseqReserved, Number.MAX_SAFE_INTEGER);
    if (!good) return undefined;
    return {
      mailboxId,
      uidValidity,
      uidReserved,
      modseqReserved,
      specialUse: specialUses.includes(specialUse as string) ? (specialUse as SpecialUse) : undefined,
      ...(isTakeOver(takeOver) ? { takeOver } : {}),
    };
  } catch {
    return undefined;
  }
}

export function writeMeta(directory: string, meta: FolderMeta): Promise<void> {
  return replaceDurably(path.join(directory, metaName), formatMeta(meta));
}

export function formatMeta(meta: FolderMeta): string {
  return `${JSON.stringify({ format: 1, ...meta })}\n`;
}

function isTakeOver(value: unknown): value is { modseq: number } {
  return (
    typeof value === 'object' &&
    value !== null &&
    isCount((value as { modseq?: unknown }).modseq, Number.MAX_SAFE_INTEGER)
  );
}

function isCount(value: unknown, max: number): value is number {
  return typeof value === 'number' && Number.isSafeInteger(value) && value > 0 && value <= max;
}
