/**
 * Names of folders: one canonical spelling per folder, and its directory in
 * Maildir++. A name is checked before it becomes a path, and a directory that
 * does not decode to exactly the name it would get is not a folder (CASES 31).
 */
import { Fault } from '../../base/fault.ts';
import { decodeModifiedUtf7, encodeModifiedUtf7 } from '../../mailwire/modified-utf7.ts';
import type { SpecialUse } from './store.ts';

/** Longest directory name Linux file systems take. */
const directoryNameBytesMax = 255;
const levelsMax = 50;

/**
 * The canonical spelling: NFC, `INBOX` in capitals as a first level.
 *
 * @param bytesMax  Longest name, UTF-8 bytes.
 * @throws {Fault} `bad-name` for `.`, `..` and empty levels, controls, lone surrogates, and what is too long.
 */
export function canonicalFolderName(text: string, bytesMax: number): string {
  if (text.length > bytesMax || !text.isWellFormed()) throw badName();
  const name = text.normalize('NFC');
  const levels = name.split('/');
  const good =
    Buffer.byteLength(name) <= bytesMax &&
    levels.length <= levelsMax &&
    levels.every((level) => level !== '' && level !== '.' && level !== '..') &&
    !/[\u0000-\u001f\u007f-\u009f\u2028\u2029]/.test(name);
  if (!good) throw badName();
  if (levels[0]!.toUpperCase() === 'INBOX') levels[0] = 'INBOX';
  const canonical = levels.join('/');
  if (directoryOf(canonical).length > directoryNameBytesMax) throw badName();
  return canonical;
}

function badName(): Fault {
  return new Fault('bad-name', 'this cannot name a folder');
}

/** Directory of a folder inside `Maildir/`; empty for INBOX. */
export function directoryOf(name: string): string {
  if (name === 'INBOX') return '';
  return `.${name
    .split('/')
    .map((level) => encodeModifiedUtf7(level, '.'))
    .join('.')}`;
}

/** The folder a directory of `Maildir/` holds, or `undefined` when it holds none. */
export function folderOfDirectory(directory: string, bytesMax: number): string | undefined {
  if (directory[0] !== '.' || directory.length < 2) return undefined;
  const levels = directory
    .slice(1)
    .split('.')
    .map((level) => decodeModifiedUtf7(level, '.'));
  if (levels.includes(undefined)) return undefined;
  const name = levels.join('/');
  try {
    const canonical = canonicalFolderName(name, bytesMax);
    return canonical === name && name !== 'INBOX' && directoryOf(name) === directory ? name : undefined;
  } catch {
    return undefined;
  }
}

/**
 * A name for a directory that is spelled as no folder of ours: what it means where that can be told (raw UTF-8, another
 * normal form, modified UTF-7 written in another way), else `Recovered` and its letters.
 *
 * @param taken  Is there a folder of this name already?
 */
export function spelledAnew(directory: string, bytesMax: number, taken: (name: string) => boolean): string {
  const meant = directory
    .replace(/^\.+/, '')
    .split('.')
    .map((level) => decodeModifiedUtf7(level, '.') ?? (/[^\x20-\x7e]/.test(level) ? level : undefined))
    .join('/');
  const plain = `Recovered/${
    directory
      .replace(/[^A-Za-z0-9]+/g, ' ')
      .trim()
      .slice(0, 60) || 'folder'
  }`;
  for (const base of [meant, plain]) {
    for (let number = 1; number <= 100; number++) {
      try {
        const name = canonicalFolderName(number === 1 ? base : `${base} ${number}`, bytesMax);
        if (name !== 'INBOX' && !taken(name)) return name;
      } catch {
        break;
      }
    }
  }
  throw new Fault('limit-reached', 'there is no name left for a folder', { detail: { directory } });
}

/** Names above `name`, nearest last: `a/b/c` → `a`, `a/b`. */
export function parentsOf(name: string): string[] {
  const levels = name.split('/');
  return levels.slice(1).map((_, index) => levels.slice(0, index + 1).join('/'));
}

/** INBOX first, then by code units of the levels, children right after their parent. */
export function compareFolderNames(a: string, b: string): number {
  if (a === b) return 0;
  if (a === 'INBOX') return -1;
  if (b === 'INBOX') return 1;
  const left = a.replaceAll('/', '\u0000');
  const right = b.replaceAll('/', '\u0000');
  return left < right ? -1 : 1;
}

/** Names under which most mail programs look for a use; a folder created so gets it unless another has it. */
export const usualUse: Readonly<Record<string, SpecialUse>> = {
  Archive: 'archive',
  Drafts: 'drafts',
  Junk: 'junk',
  Sent: 'sent',
  Trash: 'trash',
};
