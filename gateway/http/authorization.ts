/** Who a request says it comes from: Basic (RFC 7617), or an OAuth token (RFC 6750) where the site has an issuer. */
import { bearerToken, userNamedIn } from '../session/bearer-token.ts';
import type { SaslLogin, SaslOffer } from '../session/sasl-exchange.ts';
import { basicCredentials, challenge } from './basic-auth.ts';

export interface HttpLogin {
  readonly mechanism: 'BASIC' | 'BEARER';
  readonly login: SaslLogin;
}

/** `undefined`: none, malformed, or a token that does not say whose it is. */
export function httpLogin(field: string | undefined, oauth: SaslOffer['oauth']): HttpLogin | undefined {
  const basic = basicCredentials(field);
  if (basic !== undefined) return { mechanism: 'BASIC', login: basic };
  if (field === undefined || oauth === undefined) return undefined;
  const token = bearerToken(field);
  const user = token === undefined ? undefined : userNamedIn(token, oauth.userClaim);
  // An opaque token would have to be asked about before it is known which owner may ask.
  if (token === undefined || user === undefined || user === '') return undefined;
  return { mechanism: 'BEARER', login: { user, token } };
}

/** What `WWW-Authenticate` asks for. */
export function challenges(oauth: SaslOffer['oauth']): string {
  return oauth === undefined ? challenge : `${challenge}, Bearer realm="Postern"`;
}
