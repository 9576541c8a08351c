/** The IMAP door: the dialog before login, then the owner's own session. */

import type { LoginDoorParts } from '../session/login-connection.ts';
import { type LoginDoor, openLoginDoor } from '../session/login-door.ts';
import type { SaslOffer } from '../session/sasl-exchange.ts';
import { ImapDialog, imapDialogWords } from './imap-dialog.ts';

export type ImapDoorOptions = Omit<LoginDoorParts, 'service' | 'alpn' | 'words' | 'newDialog'> & {
  /** `login.plaintext` */
  readonly plaintextLogin: boolean;
  /** Mechanisms beside PLAIN and LOGIN; none unless told. */
  readonly sasl?: SaslOffer;
};

export function openImapDoor({ plaintextLogin, sasl, ...parts }: ImapDoorOptions): LoginDoor {
  return openLoginDoor({
    ...parts,
    service: 'imap',
    alpn: ['imap'],
    words: imapDialogWords,
    newDialog: (tls, channel) => new ImapDialog({ tls, canStartTls: true, plaintextLogin }, channel, sasl),
  });
}
