import { spawnSync } from 'node:child_process';
import { describe, expect, test } from '@jest/globals';
import { checkImportedHash, readImportedHash } from '../../../backend/accounts/imported-hash.ts';

/** Made by Dovecot's `doveadm pw`. */
const password = 'pässwort 1';
const hashes = [
  '{SHA}E7kqybVI0CcYHIgmCadYsJXNSOQ=',
  '{SHA256}M8bbS+dqz0PfVrKgiMu0VKIe0NEOV/NxFh3S6oqislo=',
  '{SHA512}/pkBO1wsTMUSEF9HO8FiS0SK95STdgv9mFT2B3JglrCGASPaErXcq4um+1BC7rG59DxC8QLEmcHSrOhbLAn4xQ==',
  '{SSHA}EE7H/vr2oI+VVTQyMN+ePt9x4qM/d3NJ',
  '{SSHA256}cDZinzSlHX+3rhCJf1ykPb8Nu9kgVeFTICEKuGoNJkpMyaCo',
  '{SSHA512}jpyLwJACgGjSc+gH12x4fucy8FCzj9+HaDAtF+i5SxjlX/Tu3Ack5iWIr8/Sj6Y9c95Mpe2fOhuvq/haUUxDGLUU0z4=',
  '{SHA256-CRYPT}$5$koFlDrxbwI4Uewm1$eo1QYp5kS8D1ByqrVfTNMPSUQg9kZbk9EL9d/ebp92/',
  '{SHA512-CRYPT}$6$2xN4qq4j8wYQcsrk$yfv7WTjc3d1MzXr8AOpXEov/gv8Do6lItp96R8OuzDKs4HJ8iwZJRh5qJGSpZq6tTGCdI/4jdrDHSJXMuwhhS.',
  '{BLF-CRYPT}$2y$05$HL7MCNnLAr3z0DZmZRXuC.0sNwvKGFYA4vgzMYes79PgbRbab9q4q',
  '{CRYPT}$2y$05$2MzMMmIA6QKoDfX8xJ0mb.LfltnlYvzxCgSUoaN1isquIkMoBUPVK',
  '{ARGON2I}$argon2i$v=19$m=32768,t=4,p=1$O//rDCftmTPtFBFOfaXw1g$NaBTBul35t4rItrXF1mah4taOGlqj2cZ2iJlgSmhQRw',
  '{ARGON2ID}$argon2id$v=19$m=65536,t=3,p=1$sN0CZYS1Cx6H79KEwos7Iw$eyP0WbDYmXKIt6Vkc6FlgdRZtvGtAl94zZaIgtMeXhk',
  '{PBKDF2}$1$G.eB3PfTx888hOYU$5000$0cd491666b9d8a0986de55239c6993b93663a351',
  '{SCRAM-SHA-256}4096,sVmXks3ahAFRKN8jqTCLgw==,GyNOA2rYhqQ+g4FyCoUeokbCB1Bsf/SeFoi1o1LbvvI=,0a8NPa/7iUfKxnwKZbKFtCKSbLbEEzxmB28uFgQ/cLk=',
] as const;

describe('hashes of other servers', () => {
  test.each(hashes)('%s fits its password and no other', async (text) => {
    const stored = readImportedHash(text);
    expect(await checkImportedHash(stored, password)).toBe(true);
    for (const wrong of [`${password} `, 'pässwort', 'x']) {
      expect(await checkImportedHash(stored, wrong)).toBe(false);
    }
  });

  test('bare ones are known by how they begin', () => {
    for (const text of hashes) {
      const [, scheme, data] = /^\{(.*?)\}(.*)$/.exec(text)!;
      if (!data!.startsWith('$') || scheme === 'CRYPT' || scheme === 'PBKDF2') continue;
      expect(readImportedHash(data!).text).toBe(text);
    }
  });

  test('SHA-crypt agrees with the C library for many lengths, salts and rounds', async () => {
    const script = 'print join "\\n", map { my ($p, $s) = split /\\t/; crypt($p, $s) } @ARGV';
    const rows = Array.from({ length: 24 }, (_, index) => {
      const salt = 'saltSALTsaltSALTsalt'.slice(0, 1 + (index % 18));
      const rounds = index % 3 === 0 ? `rounds=${1000 + 37 * index}$` : '';
      return [`p${'ö-'.repeat(index * 3)}w`, `$${index % 2 ? 5 : 6}$${rounds}${salt}$`] as const;
    });
    const made = spawnSync('perl', ['-e', script, ...rows.map((row) => row.join('\t'))], {
      encoding: 'utf8',
    });
    const lines = made.stdout.split('\n');
    expect(lines).toHaveLength(rows.length);
    for (const [index, line] of lines.entries()) {
      expect([line, await checkImportedHash(readImportedHash(line), rows[index]![0])]).toEqual([line, true]);
    }
  });

  const refused = [
    ['', /no password hash/],
    ['secret', /no password hash/],
    ['{PLAIN}secret', /--password-stdin/],
    ['{CLEARTEXT}secret', /--password-stdin/],
    ['{MD5-CRYPT}$1$uUkMwrNY$hwiAZOu15tHkdHBhjoBJ31', /is not read/],
    ['{constructor}x', /is not read/],
    ['{SHA512-CRYPT}$6$rounds=999999999$salt$x', /no \{SHA512-CRYPT\} hash/],
    [`{SHA512-CRYPT}$6$rounds=9999999$salt$${'x'.repeat(86)}`, /costs too much/],
    ['{BLF-CRYPT}$2y$31$HL7MCNnLAr3z0DZmZRXuC.0sNwvKGFYA4vgzMYes79PgbRbab9q4q', /costs too much/],
    ['{ARGON2ID}$argon2id$v=19$m=9999999,t=3,p=1$sN0CZYS1Cx6H79KEwos7Iw$eyP0WbDYmXKIt6Vkc6Flgd', /costs too/],
    ['{SSHA}AAAA', /no \{SSHA\} hash/],
    ['{PBKDF2}$1$salt$99999999$0cd491666b9d8a0986de55239c6993b93663a351', /costs too much/],
    ['{SCRAM-SHA-256}1,AAAA,AAAA,AAAA', /no \{SCRAM-SHA-256\} hash/],
    [`{SSHA}${'A'.repeat(2000)}`, /no password hash/],
  ] as const;
  test.each(refused)('%j is refused', (text, words) => {
    expect(() => readImportedHash(text)).toThrow(words);
  });

  test('while slow ones are checked, the thread that serves goes on', async () => {
    // Cost 12: some 300 ms of one processor.
    const slow = readImportedHash('$2b$12$abcdefghijklmnopqrstuu5Lo0g67CiD3M3RpN1BmBb4Crp5w7dbK');
    const longestPause = async (): Promise<number> => {
      let longestMs = 0;
      let lastMs = performance.now();
      const beat = setInterval(() => {
        longestMs = Math.max(longestMs, performance.now() - lastMs);
        lastMs = performance.now();
      }, 5);
      await Promise.all([checkImportedHash(slow, 'x'), checkImportedHash(slow, 'y')]);
      clearInterval(beat);
      return longestMs;
    };
    // A busy machine may hold up one round; a check in this thread would hold up every one.
    let bestMs = Number.POSITIVE_INFINITY;
    for (let round = 0; round < 8 && bestMs >= 150; round++) bestMs = Math.min(bestMs, await longestPause());
    expect(bestMs).toBeLessThan(150);
  });

  test('only so many may wait', async () => {
    const stored = readImportedHash(hashes[8]);
    const outcomes = await Promise.allSettled(
      Array.from({ length: 260 }, () => checkImportedHash(stored, password)),
    );
    const refusals = outcomes.filter((outcome) => outcome.status === 'rejected');
    expect(refusals.length).toBeGreaterThan(0);
    expect(refusals[0]!.reason).toMatchObject({ code: 'busy' });
    expect(outcomes.filter((outcome) => outcome.status === 'fulfilled' && outcome.value)).toHaveLength(
      260 - refusals.length,
    );
  });
});
