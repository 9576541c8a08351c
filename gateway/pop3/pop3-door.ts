/** The POP3 door: the dialog before login, then the owner's own session. */

import type { LoginDoorParts } from '../session/login-connection.ts';
import { type LoginDoor, openLoginDoor } from '../session/login-door.ts';
import type { SaslOffer } from '../session/sasl-exchange.ts';
import { Pop3Dialog, pop3DialogWords } from './pop3-dialog.ts';

export type Pop3DoorOptions = Omit<LoginDoorParts, 'service' | 'alpn' | 'words' | 'newDialog'> & {
  /** `login.plaintext` */
  readonly plaintextLogin: boolean;
  /** Mechanisms beside PLAIN and LOGIN; none unless told. */
  readonly sasl?: SaslOffer;
};

export function openPop3Door({ plaintextLogin, sasl, ...parts }: Pop3DoorOptions): LoginDoor {
  return openLoginDoor({
    ...parts,
    service: 'pop3',
    alpn: ['pop3'],
    words: pop3DialogWords,
    newDialog: (tls, channel) => new Pop3Dialog({ tls, canStartTls: true, plaintextLogin }, channel, sasl),
  });
}
