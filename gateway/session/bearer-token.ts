/**
 * How a client hands over an OAuth token: OAUTHBEARER (RFC 7628), XOAUTH2
 * (Google's older form of it) and, over HTTP, RFC 6750. Only the owner says
 * whether a token is good; here it is found whose account it may be for.
 */

/** Longest token that is passed on, in characters. */
export const tokenCharsMax = 8192;
/** RFC 6750 2.1. */
const tokenForm = /^[A-Za-z0-9\-._~+/]+=*$/;

export interface BearerLogin {
  /** As the client or the token has it. */
  readonly user: string;
  readonly token: string;
}

/**
 * The client's message, decoded. `n,a=ann@example.org,\x01host=…\x01auth=Bearer TOKEN\x01\x01` (RFC 7628 3.1), or
 * `user=ann@example.org\x01auth=Bearer TOKEN\x01\x01`.
 * @param userClaim  Of a token that says whose it is when the message does not.
 * @returns `undefined`: malformed, no usable token, or nobody's.
 */
export function parseBearerMessage(
  mechanism: 'OAUTHBEARER' | 'XOAUTH2',
  text: string,
  userClaim: string,
): BearerLogin | undefined {
  if (!text.endsWith('\x01\x01')) return undefined;
  const fields = text.slice(0, -2).split('\x01', 10);
  const first = fields.shift() ?? '';
  let user = '';
  if (mechanism === 'OAUTHBEARER') {
    // Channel binding is not defined for it: `p=` is refused. `y` and `n` mean the same.
    const header = /^[ny],(?:a=([^,\0]{1,1024}))?,$/u.exec(first);
    if (header === null) return undefined;
    user = (header[1] ?? '').replaceAll('=2C', ',').replaceAll('=3D', '=');
  } else {
    if (!first.startsWith('user=')) return undefined;
    user = first.slice('user='.length);
  }
  const auth = fields.filter((field) => /^auth=/i.test(field));
  const token = auth.length === 1 ? bearerToken(auth[0]!.slice('auth='.length)) : undefined;
  if (token === undefined) return undefined;
  if (user === '') user = userNamedIn(token, userClaim) ?? '';
  return user === '' ? undefined : { user, token };
}

/** The token of `Bearer TOKEN`; `undefined` when it is none. */
export function bearerToken(field: string): string | undefined {
  const token = /^bearer +(\S+)$/i.exec(field)?.[1];
  return token !== undefined && token.length <= tokenCharsMax && tokenForm.test(token) ? token : undefined;
}

/** The account a JWT names, unchecked: good for finding the owner who checks it. */
export function userNamedIn(token: string, userClaim: string): string | undefined {
  const payload = token.split('.', 4)[1];
  if (payload === undefined) return undefined;
  try {
    const claims = JSON.parse(Buffer.from(payload, 'base64url').toString('utf8')) as Record<string, unknown>;
    const value = Object.hasOwn(claims, userClaim) ? claims[userClaim] : undefined;
    return typeof value === 'string' ? value : undefined;
  } catch {
    return undefined;
  }
}
