/** What the backend can do after login, in the order clients read it. The gateway tells it with the login's OK. */

export const capabilities: readonly string[] = [
  'IMAP4rev1',
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
  'OBJECTID', // RFC 8474
];

export const capabilityLine = capabilities.join(' ');
