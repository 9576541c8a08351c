/** What checking an account finds: codes for programs, a line for a reader, and what repairing did about it. */

/**
 * - `note`: in order, or put in order by itself when the account is used.
 * - `damage`: something is not as it was written.
 */
export const findingKinds = {
  'fence-damaged': 'damage',
  'journal-damaged': 'damage',
  'journal-torn': 'note',
  'journal-missing': 'damage',
  'intake-open': 'note',
  'not-a-folder': 'damage',
  'directory-missing': 'damage',
  'meta-damaged': 'damage',
  'folder-new': 'note',
  'folder-of-dovecot': 'note',
  'uidvalidity-differs': 'damage',
  'messages-missing': 'damage',
  'messages-new': 'note',
  'uid-twice': 'damage',
  'uid-beyond': 'damage',
  'removal-pending': 'note',
  'rewrite-pending': 'note',
  'not-a-file': 'damage',
  unreadable: 'damage',
  'message-empty': 'damage',
  'message-zeroed': 'damage',
  'size-differs': 'damage',
  'lines-differ': 'damage',
  leftover: 'note',
  'index-differs': 'damage',
} as const satisfies Record<string, 'note' | 'damage'>;

export type FindingCode = keyof typeof findingKinds;

export interface Finding {
  readonly code: FindingCode;
  readonly kind: 'note' | 'damage';
  /** Folder name, or its directory where it has none; empty for the account itself. */
  readonly folder: string;
  /** File the finding is about, relative to the account's directory. */
  readonly file?: string;
  /** One line. */
  readonly text: string;
  /** What repairing did; absent: nothing was done. */
  readonly repaired?: string;
}

export const findingsMax = 5000;

/** Gathers findings up to a limit, and counts the rest. */
export class Findings {
  readonly list: Finding[] = [];
  damage = 0;
  repaired = 0;
  /** Not in `list` because it was full. */
  more = 0;

  add(
    code: FindingCode,
    folder: string,
    text: string,
    about: { readonly file?: string; readonly repaired?: string | undefined } = {},
  ): void {
    const kind = findingKinds[code];
    if (kind === 'damage') this.damage++;
    if (about.repaired !== undefined) this.repaired++;
    if (this.list.length >= findingsMax) {
      this.more++;
      return;
    }
    const { file, repaired } = about;
    this.list.push({
      code,
      kind,
      folder,
      text,
      ...(file === undefined ? {} : { file }),
      ...(repaired === undefined ? {} : { repaired }),
    });
  }
}
