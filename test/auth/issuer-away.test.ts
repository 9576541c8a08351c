/**
 * Opaque tokens on a real cluster whose issuer comes and goes, and the guard
 * that counts every kind of failed login.
 */
import { afterAll, beforeAll, expect, test } from '@jest/globals';
import { type Cluster, startCluster } from '../support/cluster.ts';
import { ScramClient } from '../support/scram-client.ts';
import { TokenIssuer } from '../support/token-issuer.ts';
import { type LoginAnswer, LoginLines, type LoginProtocol } from './login-lines.ts';

let issuer: TokenIssuer;
let cluster: Cluster;

beforeAll(async () => {
  issuer = await TokenIssuer.open();
  cluster = await startCluster({
    config: issuer.config('introspection', 'issuer-secret'),
    files: { 'issuer-secret': 's:cret\n' },
  });
}, 60_000);

afterAll(async () => {
  await cluster.stop();
  await issuer.close();
});

const open = (protocol: LoginProtocol): Promise<LoginLines> => {
  const { imaps, pop3s, submissions } = cluster.ports;
  return LoginLines.open(protocol, { imap: imaps, pop3: pop3s, smtp: submissions }[protocol]);
};

async function logIn(protocol: LoginProtocol, token: string): Promise<LoginAnswer> {
  const message = `user=${cluster.account.address}\x01auth=Bearer ${token}\x01\x01`;
  const lines = await open(protocol);
  try {
    return await lines.authenticate('XOAUTH2', message, () => '');
  } finally {
    lines.end();
  }
}

const rows = [
  ['imap', 'a NO [UNAVAILABLE] Temporary failure, try again later'],
  ['pop3', '-ERR [SYS/TEMP] Temporary failure, try again later'],
  ['smtp', '454 4.7.0 Temporary authentication failure'],
] as const;

test.each(rows)(
  '%s: an issuer that is away is "later"; passwords go on; a good token is good after',
  async (protocol, later) => {
    const { address, password } = cluster.account;
    const token = `opaque-${protocol}`;
    issuer.opaque.set(token, { email: address, aud: 'mail' });
    issuer.mood = 'silent';
    const startedMs = performance.now();
    expect(await logIn(protocol, token)).toMatchObject({ ok: false, line: later, challenges: [] });
    expect(performance.now() - startedMs).toBeLessThan(5000);
    const lines = await open(protocol);
    const plain = await lines.authenticate('PLAIN', `\0${address}\0${password}`, () => '');
    lines.end();
    expect(plain.ok).toBe(true);
    issuer.mood = 'well';
    await new Promise((resolve) => setTimeout(resolve, 1050));
    expect((await logIn(protocol, token)).ok).toBe(true);
  },
);

test('wrong proofs and wrong tokens count as guesses: the door shuts', async () => {
  const wrong = new ScramClient(cluster.account.address, 'wrong');
  const outcomes: string[] = [];
  for (let round = 0; round < 6; round++) {
    const token = await logIn('pop3', `wrong-${round}`).catch(() => undefined);
    const lines = await open('imap').catch(() => undefined);
    const proof = await lines?.authenticate(
      'SCRAM-SHA-256',
      wrong.first(),
      (text) => wrong.reply(text).final,
    );
    lines?.end();
    outcomes.push(token?.ok === false ? 'refused' : 'shut', proof?.ok === false ? 'refused' : 'shut');
  }
  // guess-guard allows ten of a network.
  expect(outcomes.slice(0, 10)).toEqual(Array(10).fill('refused'));
  expect(outcomes.at(-1)).toBe('shut');
}, 30_000);
