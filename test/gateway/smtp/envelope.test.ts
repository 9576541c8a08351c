/** CASES 8 and 9: what MAIL and RCPT may say, and that nothing is relayed. */
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals';
import { Door } from './door.ts';

let door: Door;
beforeAll(async () => {
  door = await Door.start();
});
afterAll(() => door.stop());

describe('MAIL', () => {
  test.each([
    ['MAIL FROM:<a@example.net>', /^250/],
    ['mail from:<a@example.net>', /^250/],
    ['MAIL FROM: <a@example.net>', /^250/],
    ['MAIL FROM:<>', /^250/],
    ['MAIL FROM:<a@my_host.example>', /^250/],
    ['MAIL FROM:<a@example.net.>', /^250/],
    [`MAIL FROM:<${'l'.repeat(100)}@example.net>`, /^250/],
    ['MAIL FROM:<a..b@example.net>', /^501/],
    ['MAIL FROM:<a@-example.net>', /^501/],
    ['MAIL FROM:<"a b"@example.net>', /^250/],
    ['MAIL FROM:<a@[192.0.2.1]>', /^250/],
    ['MAIL FROM:<a@example.net> SIZE=1000 BODY=8BITMIME', /^250/],
    ['MAIL FROM:<a@example.net> body=7bit', /^250/],
    ['MAIL FROM:<a@example.net> REQUIRETLS', /^555/],
    ['MAIL FROM:<a@example.net> SMTPUTF8', /^555/],
    ['MAIL FROM:<a@example.net> AUTH=<>', /^555/],
    ['MAIL FROM:<a@example.net> BODY=BINARYMIME', /^555/],
    ['MAIL FROM:<a@example.net> RET=FULL', /^555/],
    ['MAIL FROM:<a@example.net> HOLDFOR=10', /^555/],
    ['MAIL FROM:<a@example.net> X=1', /^555/],
    ['MAIL FROM:<a@example.net> SIZE=99999999999', /^552/],
    ['MAIL FROM:<a@example.net> SIZE=ten', /^501/],
    ['MAIL FROM:<a@example.net> SIZE=1 SIZE=2', /^501/],
    ['MAIL FROM:<a@example.net> SIZE=-1', /^501/],
    ['MAIL FROM:<a@example.net>SIZE=1', /^501/],
    ['MAIL FROM:<a@example.net> <b@example.net>', /^501/],
    ['MAIL FROM:<a@example.net', /^501/],
    ['MAIL FROM:a@example.net', /^501/],
    ['MAIL FROM:<a>', /^501/],
    ['MAIL FROM:<@example.net>', /^501/],
    ['MAIL FROM:<a@>', /^501/],
    ['MAIL FROM:<a@b..example>', /^501/],
    ['MAIL FROM:<@relay.example:a@example.net>', /^501/],
    ['MAIL FROM:<a@example.net> '.padEnd(3000, 'x'), /^501/],
    [`MAIL FROM:<${'a'.repeat(600)}@example.net>`, /^501/],
    ['MAIL FROM:<j\xc3\xbcrgen@example.net>', /^553 5\.6\.7/],
    ['MAIL', /^501/],
    ['MAIL TO:<a@example.net>', /^501/],
  ])('%s', async (line, reply) => {
    const client = await door.greeted();
    expect(await client.command(line)).toMatch(reply);
    client.destroy();
  });

  test('parameters exist only after EHLO', async () => {
    const client = await door.connect();
    await client.reply();
    await client.command('HELO x');
    expect(await client.command('MAIL FROM:<a@example.net> SIZE=1')).toMatch(/^555/);
    expect(await client.command('MAIL FROM:<a@example.net>')).toMatch(/^250/);
    client.destroy();
  });
});

describe('RCPT', () => {
  test.each([
    ['RCPT TO:<ann@example.org>', /^250/],
    ['RCPT TO:<ANN@EXAMPLE.ORG>', /^250/],
    ['RCPT TO:<"ann"@example.org>', /^250/],
    ['RCPT TO:<ann@example.org.>', /^250/],
    ['RCPT TO:<postmaster>', /^250/],
    ['RCPT TO:<Postmaster>', /^250/],
    ['RCPT TO:<nobody@example.org>', /^550 5\.1\.1/],
    ['RCPT TO:<full@example.org>', /^452 4\.2\.2/],
    ['RCPT TO:<away@example.org>', /^451/],
    ['RCPT TO:<ann@example.org> NOTIFY=NEVER', /^555/],
    ['RCPT TO:<ann@example.org> X', /^555/],
    // relaying by every trick in the book
    ['RCPT TO:<someone@elsewhere.example>', /^550 5\.7\.1 Relaying denied/],
    ['RCPT TO:<someone%elsewhere.example@example.org>', /^550 5\.1\.1/],
    ['RCPT TO:<elsewhere.example!someone@example.org>', /^550 5\.1\.1/],
    ['RCPT TO:<@example.org:someone@elsewhere.example>', /^501/],
    ['RCPT TO:<@elsewhere.example,@example.org:ann@example.org>', /^501/],
    ['RCPT TO:<"someone@elsewhere.example"@example.org>', /^550 5\.1\.1/],
    ['RCPT TO:<"someone@elsewhere.example">', /^501/],
    ['RCPT TO:<someone@elsewhere.example@example.org>', /^501/],
    ['RCPT TO:<ann@[127.0.0.1]>', /^550 5\.7\.1/],
    ['RCPT TO:<ann@[IPv6:::1]>', /^550 5\.7\.1/],
    ['RCPT TO:<ann@localhost>', /^550 5\.7\.1/],
    ['RCPT TO:<"../ann"@example.org>', /^550 5\.1\.1/],
    ['RCPT TO:<"ann\\"@example.org>', /^501/],
    ['RCPT TO:<>', /^501/],
    ['RCPT TO:<ann@sub.example.org>', /^550 5\.7\.1/],
    ['RCPT TO:<ann>', /^501/],
    ['RCPT TO:<\xe4nn@example.org>', /^553 5\.6\.7/],
  ])('%s', async (line, reply) => {
    const client = await door.greeted();
    await client.command('MAIL FROM:<a@example.net>');
    expect(await client.command(line)).toMatch(reply);
    client.destroy();
  });

  test('the same mailbox twice is one recipient', async () => {
    door.forget();
    const client = await door.greeted();
    await client.toData('a@example.net', ['ann@example.org', 'ANN@example.org', '"ann"@example.org']);
    client.send('x\r\n.\r\n');
    expect(await client.reply()).toMatch(/^250/);
    expect((await door.wait('delivered')).recipients).toEqual(['ann@example.org']);
    client.destroy();
  });
});

describe('the order of commands', () => {
  test.each([
    [['MAIL FROM:<a@b.example>'], /^503/],
    [['EHLO x', 'RCPT TO:<ann@example.org>'], /^503/],
    [['EHLO x', 'DATA'], /^503/],
    [['EHLO x', 'MAIL FROM:<a@b.example>', 'DATA'], /^503/],
    [['EHLO x', 'MAIL FROM:<a@b.example>', 'MAIL FROM:<a@b.example>'], /^503/],
    [['EHLO x', 'MAIL FROM:<a@b.example>', 'RCPT TO:<no@example.org>', 'DATA'], /^554/],
    [['EHLO x', 'MAIL FROM:<a@b.example>', 'RSET', 'RCPT TO:<ann@example.org>'], /^503/],
    [['EHLO x', 'MAIL FROM:<a@b.example>', 'EHLO x', 'RCPT TO:<ann@example.org>'], /^503/],
    [['EHLO x', 'VRFY ann'], /^252/],
    [['EHLO x', 'EXPN staff'], /^502/],
    [['HELP'], /^214/],
    [['EHLO'], /^501/],
    [['EHLO a\x01b'], /^501/],
    [['EHLO x', 'QUIT now'], /^501/],
    [['EHLO x', 'DATA now'], /^501/],
    [['EHLO x', 'INTERNALCMD flushQueue'], /^500/],
    [['EHLO x', 'PROXY TCP4 127.0.0.1 127.0.0.1 1 25'], /^500/],
    [['EHLO x', 'XCLIENT ADDR=127.0.0.1'], /^500/],
    [['EHLO x', 'XFORWARD ADDR=127.0.0.1'], /^500/],
    [['EHLO x', 'BDAT 5 LAST'], /^500/],
    [['EHLO x', 'constructor'], /^500/],
    [['EHLO x', ''], /^500/],
  ])('%j', async (lines, reply) => {
    const client = await door.connect();
    await client.reply();
    let last = '';
    for (const line of lines) last = await client.command(line);
    expect(last).toMatch(reply);
    client.destroy();
  });

  test('EHLO announces what is done and no more', async () => {
    const client = await door.connect();
    await client.reply();
    expect((await client.command('EHLO x')).split('\r\n')).toEqual([
      '250-mx1.example.org',
      '250-PIPELINING',
      '250-8BITMIME',
      '250-SIZE 52428800',
      '250-STARTTLS',
      '250 ENHANCEDSTATUSCODES',
    ]);
    client.destroy();
  });
});
