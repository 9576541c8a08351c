/**
 * The two SASL mechanisms of passwords, as pure functions over one
 * client line: PLAIN (RFC 4616) and LOGIN (never standardised, still common).
 * Passwords pass through and are kept nowhere.
 */

export type Mechanism = 'PLAIN' | 'LOGIN';

/** RFC 4954 4: the longest line of an AUTH exchange, CR LF included. */
export const saslLineBytesMax = 12_288;

export type SaslState =
  | { readonly wait: 'plain' }
  | { readonly wait: 'login-user' }
  | { readonly wait: 'login-password'; readonly user: string };

export type SaslStep =
  | { readonly challenge: string; readonly state: SaslState }
  | { readonly user: string; readonly password: string }
  | { readonly failed: 'cancelled' | 'base64' | 'refused' };

/** The AUTH command itself. @param initial  Initial response as written, `undefined` without one. */
export function startSasl(mechanism: Mechanism, initial: string | undefined): SaslStep {
  const state: SaslState = mechanism === 'PLAIN' ? { wait: 'plain' } : { wait: 'login-user' };
  if (initial === undefined) return { challenge: mechanism === 'PLAIN' ? '' : 'VXNlcm5hbWU6', state };
  return stepSasl(state, initial === '=' ? '' : initial);
}

/** One line of the client. */
export function stepSasl(state: SaslState, line: string): SaslStep {
  if (line === '*') return { failed: 'cancelled' };
  const bytes = decodeBase64(line);
  if (bytes === undefined) return { failed: 'base64' };
  const text = decodeUtf8(bytes);
  if (text === undefined) return { failed: 'refused' };
  switch (state.wait) {
    case 'plain': {
      const [authzid, user, password, ...more] = text.split('\0', 5);
      if (authzid === undefined || !user || !password || more.length > 0) return { failed: 'refused' };
      // acting for somebody else is a right nobody has here (RFC 4616 2; CASES 70)
      if (authzid !== '' && authzid.toLowerCase() !== user.toLowerCase()) return { failed: 'refused' };
      return { user, password };
    }
    case 'login-user':
      if (text === '' || text.includes('\0')) return { failed: 'refused' };
      return { challenge: 'UGFzc3dvcmQ6', state: { wait: 'login-password', user: text } };
    case 'login-password':
      if (text === '' || text.includes('\0')) return { failed: 'refused' };
      return { user: state.user, password: text };
  }
}

export function decodeBase64(line: string): Buffer | undefined {
  if (line.length % 4 !== 0 || !/^[A-Za-z0-9+/]*={0,2}$/.test(line)) return undefined;
  return Buffer.from(line, 'base64');
}

export function decodeUtf8(bytes: Buffer): string | undefined {
  try {
    return new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(bytes);
  } catch {
    return undefined;
  }
}
