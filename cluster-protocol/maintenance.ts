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
  | { readonly kind: 'resume' };

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
    case 'release':
    case 'resume':
      return { kind: fields.kind };
    default:
      throw new Fault('bad-syntax', 'there is no such work on an account');
  }
}
