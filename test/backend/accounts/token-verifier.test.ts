import { generateKeyPairSync } from 'node:crypto';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from '@jest/globals';
import { openTokenVerifier, type TokenVerifier } from '../../../backend/accounts/token-verifier.ts';
import { parseConfig, readSettings } from '../../../base/config-file.ts';
import { silentLog } from '../../../base/log.ts';
import { checkLoginSettings, loginSettings } from '../../../cluster-protocol/login-settings.ts';
import { type IssuerMood, TokenIssuer } from '../../support/token-issuer.ts';

const ann = 'ann@postern.test';
let issuer: TokenIssuer;
let dir: string;

beforeEach(async () => {
  issuer = await TokenIssuer.open();
  dir = await mkdtemp(path.join(tmpdir(), 'postern-issuer-'));
  await writeFile(path.join(dir, 'secret'), 's:cret\n');
});

afterEach(async () => {
  await issuer.close();
  await rm(dir, { recursive: true, force: true });
});

async function verifier(kind: 'keys' | 'introspection', more = ''): Promise<TokenVerifier> {
  const config = parseConfig(`${issuer.config(kind, 'secret')}\n${more}`, 'postern.toml');
  return (await openTokenVerifier(readSettings(config, loginSettings), dir, silentLog))!;
}

describe('signed tokens', () => {
  test.each(['rsa', 'ec', 'ed'])('a good one by the %s key is for the account it names', async (kid) => {
    const tokens = await verifier('keys');
    expect(await tokens.userOf(issuer.token(kid, issuer.claims('Ann@Postern.TEST')))).toBe(ann);
  });

  const now = Math.floor(Date.now() / 1000);
  const bad: readonly [string, (of: TokenIssuer) => string][] = [
    ['not signed (alg none)', (of) => of.forged('none', of.claims(ann))],
    ['signed with the public key as a secret', (of) => of.forged('hmac-with-public-key', of.claims(ann))],
    ['signed by a stranger under a known key id', (of) => of.forged('other-key', of.claims(ann))],
    ['of a key nobody knows', (of) => of.token('rsa', of.claims(ann), { kid: 'no-such' })],
    ['signed by a key of another kind', (of) => of.token('ec', of.claims(ann), { alg: 'RS256', kid: 'rsa' })],
    ['expired', (of) => of.token('rsa', of.claims(ann, { exp: now - 60 }))],
    ['without an end', (of) => of.token('rsa', of.claims(ann, { exp: undefined }))],
    ['whose end is a text', (of) => of.token('rsa', of.claims(ann, { exp: '9999999999' }))],
    ['not good yet', (of) => of.token('rsa', of.claims(ann, { nbf: now + 600 }))],
    ['for another audience', (of) => of.token('rsa', of.claims(ann, { aud: 'calendar' }))],
    ['for no audience', (of) => of.token('rsa', of.claims(ann, { aud: undefined }))],
    ['of another issuer', (of) => of.token('rsa', of.claims(ann, { iss: 'https://evil.example' }))],
    ['of no issuer', (of) => of.token('rsa', of.claims(ann, { iss: undefined }))],
    ['that names nobody', (of) => of.token('rsa', of.claims(ann, { email: undefined }))],
    ['that names a list', (of) => of.token('rsa', of.claims(ann, { email: [ann] }))],
    ['that names no address', (of) => of.token('rsa', of.claims('../../etc'))],
    [
      'with an address that was not verified',
      (of) => of.token('rsa', of.claims(ann, { email_verified: false })),
    ],
    [
      'with an extension that must be understood',
      (of) => of.token('rsa', of.claims(ann), { crit: ['x'], x: 1 }),
    ],
    [
      'whose claims were changed',
      (of) => changed(of.token('rsa', of.claims('eve@postern.test')), of.claims(ann)),
    ],
    ['that is opaque', () => 'opaque'],
    ['that is huge', (of) => of.token('rsa', of.claims(ann, { x: 'x'.repeat(10_000) }))],
  ];
  test.each(bad)('one %s is for nobody', async (_name, make) => {
    const tokens = await verifier('keys');
    expect(await tokens.userOf(make(issuer))).toBeUndefined();
    expect(await tokens.userOf(issuer.token('rsa', issuer.claims(ann)))).toBe(ann);
  });

  test('many tokens cost one look at the key set; one token is checked once', async () => {
    const tokens = await verifier('keys');
    const token = issuer.token('rsa', issuer.claims(ann));
    await Promise.all([tokens.userOf(token), tokens.userOf(token), tokens.userOf(token)]);
    for (let index = 0; index < 20; index++)
      expect(await tokens.userOf(issuer.token('ed', issuer.claims(`u${index}@postern.test`)))).toBe(
        `u${index}@postern.test`,
      );
    await tokens.userOf(issuer.token('rsa', issuer.claims(ann), { kid: 'unknown' }));
    expect(issuer.asked.keys).toBe(1);
  });

  test('a good token ends when it says so, although it is remembered', async () => {
    const tokens = await verifier('keys');
    // 30 s of leeway for the clocks: the token has one second left of them.
    const token = issuer.token('rsa', issuer.claims(ann, { exp: Math.floor(Date.now() / 1000) - 28 }));
    expect(await tokens.userOf(token)).toBe(ann);
    await new Promise((resolve) => setTimeout(resolve, 2100));
    expect(await tokens.userOf(token)).toBeUndefined();
  });

  test('keys under 2048 bits are no keys', async () => {
    issuer.addKey('weak', 'RS256', generateKeyPairSync('rsa', { modulusLength: 1024 }));
    const tokens = await verifier('keys');
    expect(await tokens.userOf(issuer.token('weak', issuer.claims(ann)))).toBeUndefined();
  });
});

describe('opaque tokens', () => {
  test('are good when the issuer says so, and for whom it says', async () => {
    const tokens = await verifier('introspection');
    issuer.opaque.set('good', { email: ann, aud: 'mail', exp: Math.floor(Date.now() / 1000) + 60 });
    issuer.opaque.set('other-audience', { email: ann, aud: 'calendar' });
    issuer.opaque.set('expired', { email: ann, aud: 'mail', exp: 1 });
    issuer.opaque.set('other-issuer', { email: ann, aud: 'mail', iss: 'https://evil.example' });
    const judged = [];
    for (const token of ['good', 'good', 'bad', 'other-audience', 'expired', 'other-issuer'])
      judged.push(await tokens.userOf(token));
    expect(judged).toEqual([ann, ann, undefined, undefined, undefined, undefined]);
    expect(issuer.asked.introspection).toBe(5);
  });

  test('a wrong secret is a failure of ours, not of the user', async () => {
    await writeFile(path.join(dir, 'secret'), 'wrong\n');
    const tokens = await verifier('introspection');
    await expect(tokens.userOf('good')).rejects.toMatchObject({ code: 'issuer-failed' });
  });
});

describe('an issuer that fails', () => {
  const moods: readonly IssuerMood[] = ['silent', 'error', 'garbage', 'huge', 'redirect'];
  const rows = moods.flatMap((mood) => [['keys', mood] as const, ['introspection', mood] as const]);
  test.each(rows)(
    'asked for %s and %s: neither yes nor no, soon, and well again after',
    async (kind, mood) => {
      const tokens = await verifier(kind);
      const token = kind === 'keys' ? issuer.token('rsa', issuer.claims(ann)) : 'good';
      issuer.opaque.set('good', { email: ann, aud: 'mail' });
      issuer.mood = mood;
      const startedMs = performance.now();
      await expect(tokens.userOf(token)).rejects.toMatchObject({ code: 'issuer-failed' });
      expect(performance.now() - startedMs).toBeLessThan(4000);
      const asked = issuer.asked.keys + issuer.asked.introspection;
      await expect(tokens.userOf(token)).rejects.toMatchObject({ code: 'issuer-failed' });
      expect(issuer.asked.keys + issuer.asked.introspection).toBe(asked);
      issuer.mood = 'well';
      await new Promise((resolve) => setTimeout(resolve, 1050));
      expect(await tokens.userOf(token)).toBe(ann);
    },
  );

  test('that is gone does no harm to tokens whose keys are known', async () => {
    const tokens = await verifier('keys');
    await tokens.userOf(issuer.token('rsa', issuer.claims(ann)));
    issuer.mood = 'silent';
    expect(await tokens.userOf(issuer.token('ec', issuer.claims('bob@postern.test')))).toBe(
      'bob@postern.test',
    );
  });
});

describe('settings', () => {
  const rows = [
    ['login.oauth_jwks = "https://i.example/keys"', /needs login.oauth_issuer/],
    ['login.oauth_issuer = "https://i.example"', /needs login.oauth_jwks or login.oauth_introspection/],
    [
      'login.oauth_issuer = "https://i.example"\nlogin.oauth_jwks = "https://i.example/keys"',
      /needs login.oauth_audience/,
    ],
    [
      'login.oauth_issuer = "https://i.example"\nlogin.oauth_introspection = "https://i.example/i"',
      /needs login.oauth_client_id/,
    ],
    ['login.oauth_issuer = "http://i.example"', /is not in the form/],
    ['login.oauth_issuer = "https://user:pw@i.example"', /is not in the form/],
  ] as const;
  test.each(rows)('%j is refused', (text, words) => {
    const config = parseConfig(text, 'postern.toml');
    expect(() => checkLoginSettings(readSettings(config, loginSettings), config.place)).toThrow(words);
  });

  test('a secret that cannot be read is named', async () => {
    const config = parseConfig(issuer.config('introspection', 'no-such-file'), 'postern.toml');
    await expect(
      openTokenVerifier(readSettings(config, loginSettings), dir, silentLog),
    ).rejects.toMatchObject({ code: 'bad-config', message: expect.stringContaining('no-such-file') });
  });
});

function changed(token: string, claims: Record<string, unknown>): string {
  const [head, , signature] = token.split('.');
  return `${head}.${Buffer.from(JSON.stringify(claims)).toString('base64url')}.${signature}`;
}
