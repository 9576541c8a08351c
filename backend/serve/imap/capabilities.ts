/** What the backend can do after login, in the order clients read it. The gateway tells it with the login's OK. */
import type { Store } from '../../store/store.ts';

/** `COMPRESS=DEFLATE` (RFC 4978), where the gateway can, and `APPENDLIMIT=` (RFC 7889) come on top. */
export const capabilities: readonly string[] = [
  'IMAP4rev1', // RFC 3501
  'IMAP4rev2', // RFC 9051
  'LITERAL+', // RFC 7888
  'ID', // RFC 2971
  'ENABLE', // RFC 5161
  'CONDSTORE', // RFC 7162
  'QRESYNC', // RFC 7162
  'IDLE', // RFC 2177
  'NAMESPACE', // RFC 2342
  'UIDPLUS', // RFC 4315
  'UNSELECT', // RFC 3691
  'MOVE', // RFC 6851
  'CHILDREN', // RFC 3348
  'LIST-EXTENDED', // RFC 5258
  'LIST-STATUS', // RFC 5819
  'SPECIAL-USE', // RFC 6154
  'CREATE-SPECIAL-USE', // RFC 6154
  'STATUS=SIZE', // RFC 8438
  'ESEARCH', // RFC 4731
  'SEARCHRES', // RFC 5182
  'WITHIN', // RFC 5032
  'SORT', // RFC 5256
  'SORT=DISPLAY', // RFC 5957
  'ESORT', // RFC 5267
  'THREAD=ORDEREDSUBJECT', // RFC 5256
  'THREAD=REFERENCES', // RFC 5256
  'I18NLEVEL=1', // RFC 5255
  'OBJECTID', // RFC 8474
  'PREVIEW', // RFC 8970
  'SAVEDATE', // RFC 8514
  'MULTIAPPEND', // RFC 3502
  'REPLACE', // RFC 8508
  'BINARY', // RFC 3516
  'UTF8=ACCEPT', // RFC 9755
  'QUOTA', // RFC 9208
  'QUOTA=RES-STORAGE', // RFC 9208
  'QUOTA=RES-MESSAGE', // RFC 9208
];

/**
 * What a client is told, for an account with these limits.
 * @param canCompress  The gateway could, and does not yet.
 */
export function capabilityLine({ limits }: Pick<Store, 'limits'>, canCompress: boolean): string {
  const compress = canCompress ? ' COMPRESS=DEFLATE' : '';
  return `${capabilities.join(' ')}${compress} APPENDLIMIT=${limits.messageBytesMax}`;
}
