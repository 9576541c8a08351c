/**
 * Signed access tokens (JWT, RFC 7519; JWS, RFC 7515) as pure functions: what a
 * token says, whether a key signed it, and whether it is meant for us now.
 */
import { constants, createPublicKey, type JsonWebKey, type KeyObject, verify } from 'node:crypto';

/** Longest token that is looked at, in characters. */
export const tokenCharsMax = 8192;
/** Clocks of issuer and backend may differ by this much. */
const leewayS = 30;
const rsaBitsMin = 2048;

export interface SignedToken {
  readonly algorithm: Algorithm;
  readonly keyId: string | undefined;
  readonly claims: Claims;
  readonly signed: Buffer;
  readonly signature: Buffer;
}

export type Claims = Readonly<Record<string, unknown>>;

interface AlgorithmFacts {
  readonly kty: string;
  readonly crv?: string;
  readonly hash: string | null;
  readonly pss?: true;
}

/** Only signatures with public keys: never `none`, never `HS…`, which would take a public key for a secret (RFC 8725 3.1). */
const algorithms = {
  RS256: { kty: 'RSA', hash: 'sha256' },
  RS384: { kty: 'RSA', hash: 'sha384' },
  RS512: { kty: 'RSA', hash: 'sha512' },
  PS256: { kty: 'RSA', hash: 'sha256', pss: true },
  PS384: { kty: 'RSA', hash: 'sha384', pss: true },
  PS512: { kty: 'RSA', hash: 'sha512', pss: true },
  ES256: { kty: 'EC', crv: 'P-256', hash: 'sha256' },
  ES384: { kty: 'EC', crv: 'P-384', hash: 'sha384' },
  EdDSA: { kty: 'OKP', crv: 'Ed25519', hash: null },
} as const satisfies Record<string, AlgorithmFacts>;

type Algorithm = keyof typeof algorithms;

/** A key of the issuer, ready to check signatures. */
export interface IssuerKey {
  readonly id: string | undefined;
  readonly kty: string;
  readonly crv: string | undefined;
  /** Absent: any algorithm of its kind. */
  readonly algorithm: string | undefined;
  readonly key: KeyObject;
}

/** @returns `undefined`: not a token in form, or with an algorithm or an extension that is not accepted. */
export function readSignedToken(token: string): SignedToken | undefined {
  if (token.length > tokenCharsMax || !/^[\w-]+\.[\w-]+\.[\w-]+$/.test(token)) return undefined;
  const [head = '', body = '', signature = ''] = token.split('.');
  const header = jsonObject(head);
  const claims = jsonObject(body);
  // `crit` names what must be understood (RFC 7515 4.1.11); nothing of the kind is.
  if (header === undefined || claims === undefined || 'crit' in header || 'b64' in header) return undefined;
  const { alg, kid } = header;
  if (typeof alg !== 'string' || !Object.hasOwn(algorithms, alg)) return undefined;
  return {
    algorithm: alg as Algorithm,
    keyId: typeof kid === 'string' ? kid : undefined,
    claims,
    signed: Buffer.from(`${head}.${body}`),
    signature: Buffer.from(signature, 'base64url'),
  };
}

/** Does the token look like one that keys can check? What does not is opaque. */
export function isSignedForm(token: string): boolean {
  return /^[\w-]+\.[\w-]+\.[\w-]*$/.test(token);
}

/** One key of a key set (RFC 7517); `undefined` for what is not for our algorithms, not for signatures, or weak. */
export function readIssuerKey(raw: unknown): IssuerKey | undefined {
  if (typeof raw !== 'object' || raw === null) return undefined;
  const { kty, crv, kid, alg, use } = raw as Record<string, unknown>;
  if (typeof kty !== 'string' || (use !== undefined && use !== 'sig')) return undefined;
  const fits = Object.values<AlgorithmFacts>(algorithms).some(
    (facts) => facts.kty === kty && (facts.crv === undefined || facts.crv === crv),
  );
  if (!fits) return undefined;
  try {
    const key = createPublicKey({ key: raw as JsonWebKey, format: 'jwk' });
    if (kty === 'RSA' && (key.asymmetricKeyDetails?.modulusLength ?? 0) < rsaBitsMin) return undefined;
    return {
      id: typeof kid === 'string' ? kid : undefined,
      kty,
      crv: typeof crv === 'string' ? crv : undefined,
      algorithm: typeof alg === 'string' ? alg : undefined,
      key,
    };
  } catch {
    return undefined;
  }
}

/** May this key have made the token's signature? */
export function mayHaveSigned(key: IssuerKey, token: SignedToken): boolean {
  const facts: AlgorithmFacts = algorithms[token.algorithm];
  return (
    key.kty === facts.kty &&
    (facts.crv === undefined || key.crv === facts.crv) &&
    (key.algorithm === undefined || key.algorithm === token.algorithm) &&
    (token.keyId === undefined || key.id === token.keyId)
  );
}

export function hasSigned({ key }: IssuerKey, token: SignedToken): Promise<boolean> {
  const facts: AlgorithmFacts = algorithms[token.algorithm];
  const options = {
    key,
    ...(facts.kty === 'EC' ? { dsaEncoding: 'ieee-p1363' as const } : {}),
    ...(facts.pss
      ? { padding: constants.RSA_PKCS1_PSS_PADDING, saltLength: constants.RSA_PSS_SALTLEN_DIGEST }
      : {}),
  };
  return new Promise((resolve) => {
    verify(facts.hash, token.signed, options, token.signature, (error, right) => resolve(!error && right));
  });
}

export interface TokenRules {
  readonly issuer: string;
  /** Empty: not asked for. */
  readonly audience: string;
  readonly userClaim: string;
}

export type Judgement =
  | { readonly good: true; readonly user: string; readonly untilS: number }
  | { readonly good: false; readonly why: string };

/**
 * Is a token with these claims meant for us, now? Signature or `active` have been looked at before.
 * @param nowS    Calendar seconds.
 * @param signed  Claims of a JWT, which must name issuer and expiry; an introspection answer may leave them out.
 */
export function judgeClaims(claims: Claims, rules: TokenRules, nowS: number, signed: boolean): Judgement {
  const no = (why: string): Judgement => ({ good: false, why });
  const { iss, aud, exp, nbf } = claims;
  if (iss === undefined ? signed : iss !== rules.issuer) return no('issuer');
  const audiences = Array.isArray(aud) ? aud : [aud];
  if (rules.audience !== '' && !audiences.includes(rules.audience)) return no('audience');
  if (exp === undefined ? signed : typeof exp !== 'number' || !(exp + leewayS > nowS)) return no('expired');
  if (nbf !== undefined && (typeof nbf !== 'number' || !(nbf - leewayS <= nowS))) return no('not yet');
  const user = Object.hasOwn(claims, rules.userClaim) ? claims[rules.userClaim] : undefined;
  if (typeof user !== 'string' || user === '') return no('no user');
  // An address its owner never showed to be theirs may be anybody's (OpenID Connect Core 5.7).
  if (rules.userClaim === 'email' && claims.email_verified === false) return no('address not verified');
  return { good: true, user, untilS: typeof exp === 'number' ? exp : Number.POSITIVE_INFINITY };
}

function jsonObject(part: string): Record<string, unknown> | undefined {
  try {
    const value: unknown = JSON.parse(Buffer.from(part, 'base64url').toString('utf8'));
    return typeof value === 'object' && value !== null && !Array.isArray(value)
      ? (value as Record<string, unknown>)
      : undefined;
  } catch {
    return undefined;
  }
}
