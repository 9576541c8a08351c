/**
 * Logins of every kind on a real cluster, over TLS, on every port that takes
 * one: what is right gets in, what is wrong is told nothing, and mail programs
 * people use find their way.
 */
import { readFile } from 'node:fs/promises';
import path from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import { accountDirectory } from '../../backend/accounts/account-files.ts';
import { layoutOf } from '../../base/layout.ts';
import { run } from '../clients/mail-readers.ts';
import { type Cluster, startCluster, type TestAccount } from '../support/cluster.ts';
import { waitFor } from '../support/process.ts';
import { endPointOf, exporterOf, ScramClient, type ScramReply } from '../support/scram-client.ts';
import { TokenIssuer } from '../support/token-issuer.ts';
import { type LoginAnswer, LoginLines, type LoginProtocol } from './login-lines.ts';

const protocols = ['imap', 'pop3', 'smtp'] as const;
/** A refused login. */
const refused = {
  imap: 'a NO [AUTHENTICATIONFAILED] Authentication failed',
  pop3: '-ERR [AUTH] Authentication failed',
  smtp: '535 5.7.8 Authentication credentials invalid',
};

let issuer: TokenIssuer;
let cluster: Cluster;
let ann: TestAccount;

beforeAll(async () => {
  issuer = await TokenIssuer.open();
  // Without the guard, or a hundred wrong passwords from one address would shut the door (there is a test for that).
  cluster = await startCluster({ config: `${issuer.config('keys')}\n[[plugin]]\nuse = "connection-limit"` });
  ann = await cluster.addAccount('ann@postern.test', 'pencil, please');
}, 60_000);

afterAll(async () => {
  await cluster.stop();
  await issuer.close();
});

const ports = () => ({
  imap: cluster.ports.imaps,
  pop3: cluster.ports.pop3s,
  smtp: cluster.ports.submissions,
});

async function on<T>(
  protocol: LoginProtocol,
  work: (lines: LoginLines) => Promise<T>,
  maxVersion: 'TLSv1.2' | 'TLSv1.3' = 'TLSv1.3',
): Promise<T> {
  const lines = await LoginLines.open(protocol, ports()[protocol], { maxVersion });
  try {
    return await work(lines);
  } finally {
    lines.end();
  }
}

/** One exchange; `genuine`: the server proved that it knows the keys. */
async function scram(
  lines: LoginLines,
  mechanism: string,
  client: ScramClient,
  withInitial: boolean,
): Promise<LoginAnswer & { readonly genuine: boolean }> {
  let reply: ScramReply | undefined;
  let genuine = false;
  const answer = await lines.authenticate(mechanism, withInitial ? client.first() : undefined, (text) => {
    if (text === '') return client.first();
    if (text.startsWith('r=')) {
      reply = client.reply(text);
      return reply.final;
    }
    genuine = reply?.serverIsGenuine(text) === true;
    return '';
  });
  return { ...answer, genuine };
}

const bearer = (user: string, token: string): string =>
  `n,a=${user},\x01host=mx\x01port=1\x01auth=Bearer ${token}\x01\x01`;
const xoauth2 = (user: string, token: string): string => `user=${user}\x01auth=Bearer ${token}\x01\x01`;

describe.each(protocols)('%s', (protocol) => {
  test('announces what can be used: bound logins over TLS 1.3 only', async () => {
    const ask = { imap: 'a CAPABILITY', pop3: 'CAPA', smtp: 'EHLO x' }[protocol];
    const announced = async (version: 'TLSv1.2' | 'TLSv1.3'): Promise<string> =>
      on(
        protocol,
        async (lines) => {
          let all = await lines.ask(ask);
          while (protocol === 'pop3' && !/^\.$/m.test(all)) all += `${await lines.line()}\n`;
          return all;
        },
        version,
      );
    const names = ['PLAIN', 'SCRAM-SHA-256', 'OAUTHBEARER', 'XOAUTH2'];
    const has = (text: string, name: string): boolean => new RegExp(`[= ]${name}(?![-\\w])`).test(text);
    const [older, newer] = [await announced('TLSv1.2'), await announced('TLSv1.3')];
    for (const name of names) expect([name, has(older, name), has(newer, name)]).toEqual([name, true, true]);
    expect([has(older, 'SCRAM-SHA-256-PLUS'), has(newer, 'SCRAM-SHA-256-PLUS')]).toEqual([false, true]);
  });

  const bindings = ['none', 'tls-exporter', 'tls-server-end-point'] as const;
  test.each(bindings.flatMap((kind) => [[kind, true] as const, [kind, false] as const]))(
    'SCRAM bound by %s, initial response %s: both ends know each other',
    async (kind, withInitial) => {
      await on(protocol, async (lines) => {
        const data = { none: undefined, 'tls-exporter': exporterOf, 'tls-server-end-point': endPointOf }[
          kind
        ];
        const bend = data === undefined ? {} : { gs2: `p=${kind},,`, binding: data(lines.socket) };
        const client = new ScramClient('Ann@POSTERN.test', ann.password, bend);
        const mechanism = data === undefined ? 'SCRAM-SHA-256' : 'SCRAM-SHA-256-PLUS';
        const answer = await scram(lines, mechanism, client, withInitial);
        expect(answer).toMatchObject({ ok: true, genuine: true });
        expect(await lines.works()).toBe(true);
      });
    },
  );

  const bad = [
    ['a wrong password', 'SCRAM-SHA-256', () => new ScramClient(ann.address, 'wrong')],
    ['nobody’s name', 'SCRAM-SHA-256', () => new ScramClient('nobody@postern.test', 'x')],
    ['a foreign name', 'SCRAM-SHA-256', () => new ScramClient('ann@elsewhere.example', ann.password)],
    ['a name that is none', 'SCRAM-SHA-256', () => new ScramClient('../ann', ann.password)],
    [
      'the binding of another connection',
      'SCRAM-SHA-256-PLUS',
      () =>
        new ScramClient(ann.address, ann.password, {
          gs2: 'p=tls-exporter,,',
          binding: Buffer.alloc(32, 1),
        }),
    ],
    [
      'a downgrade on the way',
      'SCRAM-SHA-256',
      () => new ScramClient(ann.address, ann.password, { gs2: 'y,,' }),
    ],
    [
      'the right to act for somebody else',
      'SCRAM-SHA-256',
      () => new ScramClient(ann.address, ann.password, { gs2: `n,a=${cluster.account.address},` }),
    ],
    [
      'a nonce of before',
      'SCRAM-SHA-256',
      () => new ScramClient(ann.address, ann.password, { nonce: (full) => `${full.slice(0, -4)}AAAA` }),
    ],
    [
      'a proof with one bit wrong',
      'SCRAM-SHA-256',
      () =>
        new ScramClient(ann.address, ann.password, {
          proof: (right) => Buffer.concat([right.subarray(0, 31), Buffer.from([right[31]! ^ 1])]),
        }),
    ],
  ] as const;
  test.each(bad)('SCRAM with %s is refused in the same words', async (_name, mechanism, client) => {
    await on(protocol, async (lines) => {
      const answer = await scram(lines, mechanism, client(), true);
      expect(answer.line).toBe(refused[protocol]);
      expect(answer.genuine).toBe(false);
      // Nothing is left of it: the right password gets in on the same connection.
      const again = await scram(lines, 'SCRAM-SHA-256', new ScramClient(ann.address, ann.password), true);
      expect(again.ok).toBe(true);
    });
  });

  test('an exchange that was overheard is of no use', async () => {
    const client = new ScramClient(ann.address, ann.password);
    let overheard = '';
    await on(protocol, (lines) =>
      lines.authenticate('SCRAM-SHA-256', client.first(), (text) => {
        if (text.startsWith('r=')) overheard = client.reply(text).final;
        return text.startsWith('r=') ? overheard : '';
      }),
    );
    const answer = await on(protocol, (lines) =>
      lines.authenticate('SCRAM-SHA-256', client.first(), () => overheard),
    );
    expect(answer.line).toBe(refused[protocol]);
  });

  test.each([
    ['OAUTHBEARER', bearer],
    ['XOAUTH2', xoauth2],
  ] as const)(
    '%s: a good token gets in, another is told why and then refused',
    async (mechanism, message) => {
      const good = issuer.token('rsa', issuer.claims(ann.address));
      await on(protocol, async (lines) => {
        const answer = await lines.authenticate(mechanism, message('Ann@postern.test', good), () => '');
        expect(answer).toMatchObject({ ok: true, challenges: [] });
        expect(await lines.works()).toBe(true);
      });
      const tokens = [
        [ann.address, issuer.token('ec', issuer.claims(ann.address, { exp: 1000 }))],
        [ann.address, issuer.token('ed', issuer.claims(ann.address, { aud: 'calendar' }))],
        [ann.address, issuer.forged('none', issuer.claims(ann.address))],
        [ann.address, issuer.forged('hmac-with-public-key', issuer.claims(ann.address))],
        [cluster.account.address, good],
        ['nobody@postern.test', issuer.token('rsa', issuer.claims('nobody@postern.test'))],
      ] as const;
      for (const [user, token] of tokens) {
        const answer = await on(protocol, (lines) =>
          lines.authenticate(mechanism, message(user, token), () => '\x01'),
        );
        expect(answer.line).toBe(refused[protocol]);
        expect(answer.challenges).toHaveLength(1);
        expect(JSON.parse(answer.challenges[0]!).status).toBe(
          mechanism === 'XOAUTH2' ? '401' : 'invalid_token',
        );
      }
    },
  );

  test('a token that says whose it is needs no name beside it', async () => {
    const message = `n,,\x01auth=Bearer ${issuer.token('ed', issuer.claims(ann.address))}\x01\x01`;
    expect((await on(protocol, (lines) => lines.authenticate('OAUTHBEARER', message, () => ''))).ok).toBe(
      true,
    );
  });

  test('a token of 9,000 bytes, a megabyte of base64 and a broken-off exchange end in a refusal or a close', async () => {
    const large = issuer.token('rsa', issuer.claims(ann.address, { x: 'x'.repeat(6500) }));
    const answer = await on(protocol, (lines) =>
      lines.authenticate('XOAUTH2', xoauth2(ann.address, large), () => ''),
    );
    expect(answer.ok).toBe(false);
    await on(protocol, (lines) =>
      lines.authenticate('SCRAM-SHA-256', 'A'.repeat(1_000_000), () => undefined).catch(() => undefined),
    );
    await on(protocol, async (lines) => {
      const client = new ScramClient(ann.address, ann.password);
      const cancelled = await lines.authenticate('SCRAM-SHA-256', client.first(), () => undefined);
      expect(cancelled.ok).toBe(false);
      expect((await scram(lines, 'SCRAM-SHA-256', client, false)).ok).toBe(true);
    });
  });
});

describe('what cannot be told apart', () => {
  test('a name without an account has a salt of its own, the same each time and on every port', async () => {
    const startOf = async (protocol: LoginProtocol, user: string): Promise<string> => {
      const first = new ScramClient(user, 'x').first();
      const answer = await on(protocol, (lines) =>
        lines.authenticate('SCRAM-SHA-256', first, () => undefined),
      );
      return answer.challenges[0]!.replace(/^r=[^,]*/, '');
    };
    const nobody = await Promise.all(protocols.map((protocol) => startOf(protocol, 'nobody@postern.test')));
    expect(new Set(nobody).size).toBe(1);
    const known = await startOf('imap', ann.address);
    const other = await startOf('imap', 'somebody@postern.test');
    expect(new Set([nobody[0], known, other]).size).toBe(3);
    for (const text of [nobody[0], known, other]) expect(text).toMatch(/^,s=[A-Za-z0-9+/]{22}==,i=20000$/);
    // An account made later has the salt that was shown before.
    await cluster.addAccount('somebody@postern.test', 'x y z');
    expect(await startOf('imap', 'somebody@postern.test')).toBe(other);
  });

  test('known and unknown names take the same time', async () => {
    const timeOf = async (user: string): Promise<number> => {
      const client = new ScramClient(user, 'wrong');
      return on('imap', async (lines) => {
        const startedMs = performance.now();
        const answer = await lines.authenticate('SCRAM-SHA-256', client.first(), (text) =>
          // Without the client's own hashing, which is what takes longest.
          text.startsWith('r=')
            ? `c=biws,${text.split(',')[0]},p=${Buffer.alloc(32).toString('base64')}`
            : undefined,
        );
        expect(answer.ok).toBe(false);
        return performance.now() - startedMs;
      });
    };
    const known: number[] = [];
    const unknown: number[] = [];
    for (let round = 0; round < 25; round++) {
      known.push(await timeOf(ann.address));
      unknown.push(await timeOf(`nobody${round}@postern.test`));
    }
    const median = (list: number[]): number => list.toSorted((a, b) => a - b)[12]!;
    // A busy machine stretches both.
    expect(Math.abs(median(known) - median(unknown))).toBeLessThan(Math.max(5, 0.4 * median(known)));
  });
});

describe('HTTP', () => {
  const ask = async (authorization: string): Promise<{ status: number; challenge: string }> => {
    const { stdout } = await run('curl', [
      '--silent',
      '--include',
      '--http1.1',
      '--cacert',
      cluster.access().caFile,
      '--header',
      `Authorization: ${authorization}`,
      `https://127.0.0.1:${cluster.ports.https}/jmap/session`,
    ]);
    const text = stdout.toString();
    return {
      status: Number(/^HTTP\/1.1 (\d+)/.exec(text)?.[1]),
      challenge: /^www-authenticate: (.*)\r$/im.exec(text)?.[1] ?? '',
    };
  };

  test('takes a signed token as Bearer, and asks for it or a password', async () => {
    const good = issuer.token('ec', issuer.claims(ann.address));
    expect((await ask(`Bearer ${good}`)).status).toBe(200);
    for (const bad of [
      issuer.token('rsa', issuer.claims(ann.address, { aud: 'x' })),
      issuer.forged('none', issuer.claims(ann.address)),
      'opaque',
      `${good}x`,
    ]) {
      const answer = await ask(`Bearer ${bad}`);
      expect(answer.status).toBe(401);
      expect(answer.challenge).toMatch(/^Basic .*, Bearer realm="Postern"$/);
    }
  });
});

describe('passwords of other servers', () => {
  // Both made by Dovecot's `doveadm pw -p 'pässwort 1'`.
  const hashes = [
    '{SHA512-CRYPT}$6$2xN4qq4j8wYQcsrk$yfv7WTjc3d1MzXr8AOpXEov/gv8Do6lItp96R8OuzDKs4HJ8iwZJRh5qJGSpZq6tTGCdI/4jdrDHSJXMuwhhS.',
    '$2y$05$HL7MCNnLAr3z0DZmZRXuC.0sNwvKGFYA4vgzMYes79PgbRbab9q4q',
  ];
  test.each(hashes)('%s lets its owner in, and is replaced at the first login', async (hash) => {
    const address = `moved-${hash.length}@postern.test`;
    await cluster.command(['account', 'add', address, '--hash', '-'], `${hash}\n`);
    const file = path.join(accountDirectory(layoutOf(cluster.data).storage, address), 'account.json');
    expect(await readFile(file, 'utf8')).toContain('"imported"');
    const client = () => new ScramClient(address, 'pässwort 1');
    // SCRAM needs keys that only the password can make.
    expect((await on('imap', (lines) => scram(lines, 'SCRAM-SHA-256', client(), true))).ok).toBe(false);
    const plain = (password: string) =>
      on('imap', (lines) => lines.authenticate('PLAIN', `\0${address}\0${password}`, () => ''));
    expect((await plain('pässwort')).ok).toBe(false);
    expect((await plain('pässwort 1')).ok).toBe(true);
    await waitFor('the hash to be replaced', async () => /"scrypt"/.test(await readFile(file, 'utf8')));
    expect(await readFile(file, 'utf8')).not.toContain(hash.slice(-20));
    expect((await plain('pässwort 1')).ok).toBe(true);
    expect((await plain('pässwort')).ok).toBe(false);
    expect((await on('imap', (lines) => scram(lines, 'SCRAM-SHA-256', client(), true))).ok).toBe(true);
  });

  test('what is no hash is refused on the command line', async () => {
    await expect(
      cluster.command(['account', 'add', 'x@postern.test', '--hash', '{PLAIN}secret']),
    ).rejects.toThrow(/--password-stdin/);
    await expect(cluster.command(['account', 'passwd', ann.address, '--hash', 'x'])).rejects.toThrow(
      /no password hash/,
    );
  });
});

describe('programs people use', () => {
  const smtpArgs = () => [
    '--server',
    `127.0.0.1:${cluster.ports.submission}`,
    '--tls',
    '--from',
    ann.address,
    '--to',
    ann.address,
    '--quit-after',
    'RCPT',
  ];

  test.each(['PLAIN', 'LOGIN'])('swaks by AUTH %s', async (mechanism) => {
    const login = ['--auth', mechanism, '--auth-user', ann.address, '--auth-password', ann.password];
    const { stdout } = await run('swaks', [...smtpArgs(), ...login]);
    expect(stdout.toString()).toMatch(/235 2\.7\.0/);
  });

  test.each(['imaps', 'pop3s', 'smtps'])('curl %s:// with --oauth2-bearer', async (scheme) => {
    const port = { imaps: ports().imap, pop3s: ports().pop3, smtps: ports().smtp }[scheme];
    const token = issuer.token('rsa', issuer.claims(ann.address));
    const base = ['--silent', '--show-error', '--verbose', '--cacert', cluster.access().caFile];
    const login = ['--user', `${ann.address}:`, '--oauth2-bearer', token];
    const wanted = scheme === 'smtps' ? ['--request', 'NOOP'] : [];
    const { stderr } = await run('curl', [...base, ...login, ...wanted, `${scheme}://127.0.0.1:${port}/`]);
    expect(stderr).toMatch(/AUTH(?:ENTICATE)? OAUTHBEARER/);
    const bad = ['--user', `${ann.address}:`, '--oauth2-bearer', issuer.forged('none', {})];
    const failed = await run('curl', [...base, ...bad, ...wanted, `${scheme}://127.0.0.1:${port}/`], {
      mayFail: true,
    });
    expect(failed.code).toBe(67);
  });

  const imaplib = `
import imaplib, ssl, sys
host, port, ca, user, token = sys.argv[1:6]
box = imaplib.IMAP4_SSL(host, int(port), ssl_context=ssl.create_default_context(cafile=ca))
answer = lambda challenge: ('user=%s\\x01auth=Bearer %s\\x01\\x01' % (user, token)).encode() if not challenge else b''
print(box.authenticate('XOAUTH2', answer)[0], box.select('INBOX')[0])
`;
  test('Python imaplib by XOAUTH2', async () => {
    const token = issuer.token('ec', issuer.claims(ann.address));
    const { caFile } = cluster.access();
    const args = ['-c', imaplib, '127.0.0.1', String(cluster.ports.imaps), caFile, ann.address, token];
    expect((await run('python3', args)).stdout.toString()).toBe('OK OK\n');
  });

  test.each(['scram-sha-256', 'plain', 'oauthbearer', 'xoauth2'])('msmtp and mpop by %s', async (auth) => {
    const secret = auth.includes('oauth') ? issuer.token('rsa', issuer.claims(ann.address)) : ann.password;
    const common = (port: number): string[] => [
      '--host=127.0.0.1',
      `--port=${port}`,
      '--tls=on',
      '--tls-starttls=off',
      `--tls-trust-file=${cluster.access().caFile}`,
      `--auth=${auth}`,
      `--user=${ann.address}`,
    ];
    const password = [`--passwordeval=printf %s '${secret}'`];
    const mail = `From: ${ann.address}\nTo: ${ann.address}\nSubject: by ${auth}\n\nhello\n`;
    await run('msmtp', [...common(ports().smtp), ...password, `--from=${ann.address}`, ann.address], {
      input: mail,
    });
    const got = await run('mpop', [
      ...common(ports().pop3),
      ...password,
      '--deliver=mbox,/dev/null',
      '--status-only',
    ]);
    expect(got.stdout.toString()).toMatch(/\d+ messages?/);
  });
});
