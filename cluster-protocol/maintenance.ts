/**
 * Work on a whole account that its owner does while nobody else has it open:
 * what the command line may ask for, and how its form is checked. Pure.
 */
import { Fault } from '../base/fault.ts';

export type MaintenanceTask =
  /** Verifies the account; `deep` reads every message, `repair` mends. */
  | { readonly kind: 'check'; readonly deep: boolean; readonly repair: boolean }
  /** Moves a Maildir that stands elsewhere on the storage into an account that is empty. */
  | { readonly kind: 'adopt'; readonly directory: string }
  /** Leaves the Maildir for Dovecot, and the account unused until `resume`. */
  | { readonly kind: 'release' }
  | { readonly kind: 'resume' }
  /** Keeps the messages of a folder, or of all, in the other format. */
  | { readonly kind: 'convert'; readonly folder?: string; readonly to: 'maildir' | 'mbox' };

const pathBytesMax = 4095;

/** @throws {Fault} `bad-syntax` */
export function maintenanceTask(raw: unknown): MaintenanceTask {
  const fields = (typeof raw === 'object' && raw !== null ? raw : {}) as Record<string, unknown>;
  switch (fields.kind) {
    case 'check':
      return { kind: 'check', deep: fields.deep === true, repair: fields.repair === true };
    case 'adopt': {
      const { directory } = fields;
      const good =
        typeof directory === 'string' &&
        directory.startsWith('/') &&
        Buffer.byteLength(directory) <= pathBytesMax &&
        !directory.includes('\0');
      if (!good) throw new Fault('bad-syntax', 'the directory is not an absolute path');
      return { kind: 'adopt', directory };
    }
    case 'convert': {
      const { folder, to } = fields;
      if (to !== 'maildir' && to !== 'mbox')
        throw new Fault('bad-syntax', 'there are the formats "maildir" and "mbox"');
      if (folder === undefined) return { kind: 'convert', to };
      if (typeof folder !== 'string' || Buffer.byteLength(folder) > pathBytesMax)
        throw new Fault('bad-syntax', 'the folder is not a name');
      return { kind: 'convert', to, folder };
    }
    case 'release':
    case 'resume':
      return { kind: fields.kind };
    default:
      throw new Fault('bad-syntax', 'there is no such work on an account');
  }
}
