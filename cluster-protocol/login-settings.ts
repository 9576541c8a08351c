/**
 * How users may log in beside passwords. Gateways announce the mechanisms and
 * backends judge the logins, so both read these.
 */
import { Fault } from '../base/fault.ts';
import type { SettingsTable, ValuesOf } from '../base/settings.ts';

/** Empty, or an absolute URL: HTTPS, or plain HTTP on this machine. */
const url =
  /^(?:|https:\/\/[^\s/?#@]+(?:[/?][^\s#]*)?|http:\/\/(?:127\.0\.0\.1|\[::1\]|localhost)(?::\d+)?(?:[/?][^\s#]*)?)$/;

export const loginSettings = {
  'login.scram': {
    kind: 'flag',
    cluster: 'restart',
    default: true,
    doc: 'Offer SCRAM-SHA-256, and over TLS 1.3 SCRAM-SHA-256-PLUS; keep what it needs beside the hash of a password.',
  },
  'login.oauth_issuer': {
    kind: 'text',
    cluster: 'restart',
    default: '',
    pattern: url,
    doc: 'Issuer of OAuth access tokens, as its tokens name it ("iss"). Empty: no OAUTHBEARER, XOAUTH2 and HTTP Bearer.',
  },
  'login.oauth_jwks': {
    kind: 'text',
    cluster: 'restart',
    default: '',
    pattern: url,
    doc: "URL of the issuer's keys (RFC 7517): signed tokens (JWT) are checked with them, here.",
  },
  'login.oauth_introspection': {
    kind: 'text',
    cluster: 'restart',
    default: '',
    pattern: url,
    doc: 'URL of its introspection endpoint (RFC 7662): it is asked about tokens that are not checked with the keys.',
  },
  'login.oauth_client_id': {
    kind: 'text',
    cluster: 'restart',
    default: '',
    pattern: /^[\x21-\x39\x3b-\x7e]{0,255}$/,
    doc: 'Who we are at the introspection endpoint.',
  },
  'login.oauth_client_secret_file': {
    kind: 'path',
    default: '',
    doc: 'File whose first line is our secret there.',
  },
  'login.oauth_audience': {
    kind: 'text',
    cluster: 'restart',
    default: '',
    pattern: /^[^\s]{0,255}$/,
    doc: 'What tokens must be made out to ("aud"). Needed with login.oauth_jwks: the issuer makes tokens for others too.',
  },
  'login.oauth_user_claim': {
    kind: 'text',
    cluster: 'restart',
    default: 'email',
    pattern: /^[A-Za-z0-9_.:/-]{1,128}$/,
    doc: 'The claim that holds the address of the account.',
  },
  'login.oauth_remember': {
    kind: 'duration',
    cluster: 'restart',
    default: '5m',
    max: '1h',
    doc: 'How long a good token is not asked about again, and so how long a revoked one may still be used.',
  },
  'login.oauth_timeout': {
    kind: 'duration',
    cluster: 'restart',
    default: '5s',
    min: '100ms',
    max: '9s',
    doc: 'How long the issuer may take; after that the login fails for now.',
  },
} as const satisfies SettingsTable;

export type LoginSettings = ValuesOf<typeof loginSettings>;

/** Settings that only make sense together. @throws {Fault} `bad-config` */
export function checkLoginSettings(settings: LoginSettings, place: (key: string) => string): void {
  const bad = (key: keyof LoginSettings, words: string): never => {
    throw new Fault('bad-config', `${place(key)}: ${words}`);
  };
  const issuer = settings['login.oauth_issuer'];
  const jwks = settings['login.oauth_jwks'];
  const introspection = settings['login.oauth_introspection'];
  if (issuer === '') {
    if (jwks !== '' || introspection !== '')
      bad(
        jwks === '' ? 'login.oauth_introspection' : 'login.oauth_jwks',
        'needs login.oauth_issuer; name it',
      );
    return;
  }
  if (jwks === '' && introspection === '')
    bad('login.oauth_issuer', 'needs login.oauth_jwks or login.oauth_introspection; add one');
  if (jwks !== '' && settings['login.oauth_audience'] === '')
    bad('login.oauth_jwks', 'needs login.oauth_audience; name what tokens for mail are made out to');
  if (introspection !== '' && settings['login.oauth_client_id'] === '')
    bad(
      'login.oauth_introspection',
      'needs login.oauth_client_id and login.oauth_client_secret_file; set both',
    );
}
