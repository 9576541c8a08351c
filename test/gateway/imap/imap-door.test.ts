import { afterEach, describe, expect, test } from '@jest/globals';
import { type Client, DoorRig, type RigOptions } from '../session/door-rig.ts';

const rigs: DoorRig[] = [];
const clients: Client[] = [];

async function open(options: Partial<RigOptions> = {}): Promise<DoorRig> {
  const rig = await DoorRig.open({ protocol: 'imap', ...options });
  rigs.push(rig);
  return rig;
}

function keep(client: Client): Client {
  clients.push(client);
  return client;
}

afterEach(async () => {
  for (const client of clients.splice(0)) client.end();
  for (const rig of rigs.splice(0)) await rig.close();
});

describe('the IMAP door', () => {
  test('greets, logs in over TLS, carries bytes both ways and ends when the owner does', async () => {
    const rig = await open();
    const client = keep(rig.secure());
    await client.until(/^\* OK \[CAPABILITY IMAP4rev1 .*AUTH=PLAIN.*\] Postern ready\r\n$/);
    client.send('a LOGIN ann@postern.test right\r\n');
    await client.until(/a OK \[CAPABILITY IMAP4rev1 IDLE\] Logged in\r\n$/);
    client.send('b SELECT INBOX\r\n');
    await client.until(/<ann@postern\.test> b SELECT INBOX\r\n$/);
    client.send('c LOGOUT\r\n');
    await client.untilClosed();
    expect(rig.ownerGot.get('ann@postern.test')).toBe('b SELECT INBOX\r\nc LOGOUT\r\n');
    await rig.emptied();
    expect(rig.told).toEqual(['connected', 'loggedIn ann@postern.test', 'disconnected ann@postern.test']);
  });

  test('STARTTLS throws away what came in the same segment (CASES 20)', async () => {
    const rig = await open();
    const client = keep(rig.plain());
    await client.until(/STARTTLS LOGINDISABLED/);
    client.send('a STARTTLS\r\nb LOGIN ann@postern.test right\r\n');
    await client.until(/a OK .*\r\n$/);
    await client.startTls();
    client.send('c NOOP\r\n');
    expect(await client.until(/c OK .*\r\n/)).toMatch(/^c OK [^\n]*\n$/);
    expect(rig.ownerGot.size).toBe(0);
    client.send('d LOGIN ann@postern.test right\r\n');
    await client.until(/d OK/);
  });

  test('every login is the chain’s business: one that was broken off clears no other', async () => {
    const asked: string[] = [];
    const rig = await open({
      ask: (question) => {
        asked.push(question);
        return { word: 'pass', plugin: undefined };
      },
    });
    const client = keep(rig.secure());
    const first = Buffer.from('n,,n=ann@postern.test,r=abcdef').toString('base64');
    client.send(`a AUTHENTICATE SCRAM-SHA-256 ${first}\r\n`);
    await client.until(/^\+ \S+\r\n$/m);
    client.send('*\r\n');
    await client.until(/a BAD Authentication cancelled/);
    client.send('b LOGIN bob@postern.test wrong\r\n');
    await client.until(/b NO/);
    const proof = Buffer.alloc(32).toString('base64');
    client.send(`c AUTHENTICATE SCRAM-SHA-256 ${first}\r\n`);
    const challenge = /\+ (\S+)\r\n$/.exec(await client.until(/b NO[\s\S]*\+ \S+\r\n$/))![1]!;
    const nonce = /^r=([^,]*)/.exec(Buffer.from(challenge, 'base64').toString())![1]!;
    client.send(`${Buffer.from(`c=biws,r=${nonce},p=${proof}`).toString('base64')}\r\n`);
    await client.until(/c NO \[AUTHENTICATIONFAILED\]/);
    expect(asked).toEqual(['connect', 'login', 'login', 'login']);
    expect(rig.told).toEqual(['connected', 'loginFailed', 'loginFailed']);
  });

  test('nothing after a failing LOGIN reaches an owner (CASES 21)', async () => {
    const rig = await open();
    const client = keep(rig.secure());
    client.send('a LOGIN ann@postern.test wrong\r\nb SELECT INBOX\r\nc LOGOUT\r\n');
    expect(await client.untilClosed()).toMatch(
      /a NO \[AUTHENTICATIONFAILED\] Authentication failed\r\nb BAD .*\r\n\* BYE .*\r\nc OK/,
    );
    expect(rig.ownerGot.size).toBe(0);
    await rig.emptied();
    expect(rig.told).toEqual(['connected', 'loginFailed', 'disconnected']);
  });

  test('a pipelined second LOGIN goes to the first one’s session (CASES 22)', async () => {
    const rig = await open();
    const client = keep(rig.secure());
    client.send('a LOGIN ann@postern.test right\r\nb LOGIN bob@postern.test right\r\nc NOOP\r\n');
    await client.until(/<ann@postern\.test> c NOOP/);
    expect([...rig.ownerGot.keys()]).toEqual(['ann@postern.test']);
    expect(rig.ownerGot.get('ann@postern.test')).toBe('b LOGIN bob@postern.test right\r\nc NOOP\r\n');
  });

  test('a LOGIN by literals, byte by byte, leaves no byte on the wrong side (CASES 22)', async () => {
    const rig = await open();
    const client = keep(rig.secure());
    await client.until(/ready/);
    for (const byte of 'a LOGIN {16+}\r\nann@postern.test {5+}\r\nright\r\nb NOOP\r\n') client.send(byte);
    await client.until(/<ann@postern\.test> b NOOP\r\n/);
    expect(rig.ownerGot.get('ann@postern.test')).toBe('b NOOP\r\n');
  });

  test('an unknown name and a wrong password get the same words', async () => {
    const rig = await open();
    const client = keep(rig.secure());
    client.send('a LOGIN ann@postern.test wrong\r\na LOGIN ../etc/passwd wrong\r\na LOGIN x wrong\r\n');
    await client.until(/(a NO .*\r\n){3}/);
    const answers = client.got.split('\r\n').filter((line) => line.startsWith('a NO'));
    expect(new Set(answers).size).toBe(1);
  });

  const outcomes = [
    { password: 'unreachable', says: /a NO \[UNAVAILABLE\]/ },
    { password: 'limit', says: /a NO \[LIMIT\]/ },
    { password: 'wrong', says: /a NO \[AUTHENTICATIONFAILED\]/ },
  ];
  test.each(outcomes)(
    'a login that is $password is worded so, and may be tried again',
    async ({ password, says }) => {
      const rig = await open();
      const client = keep(rig.secure());
      client.send(`a LOGIN ann@postern.test ${password}\r\n`);
      await client.until(says);
      client.send('b LOGIN ann@postern.test right\r\n');
      await client.until(/b OK/);
    },
  );

  const verdicts = [
    { on: 'connect', word: 'defer', says: /^\* BYE \[UNAVAILABLE\] Later\r\n$/, closes: true },
    { on: 'connect', word: 'reject', says: /^\* BYE Later\r\n$/, closes: true },
    { on: 'connect', word: 'disconnect', says: /^\* BYE Later\r\n$/, closes: true },
    { on: 'login', word: 'defer', says: /a NO \[UNAVAILABLE\] Later\r\n$/, closes: false },
    { on: 'login', word: 'reject', says: /a NO Later\r\n$/, closes: false },
    { on: 'login', word: 'disconnect', says: /\* BYE Later\r\n$/, closes: true },
  ] as const;
  test.each(verdicts)(
    'a plugin’s $word on $on becomes the protocol’s words',
    async ({ on, word, says, closes }) => {
      const rig = await open({
        plaintextLogin: true,
        ask: (question) =>
          question === on ? { word, say: 'Later', plugin: 'x' } : { word: 'pass', plugin: undefined },
      });
      const client = keep(rig.plain());
      client.send('a LOGIN ann@postern.test right\r\n');
      if (closes) expect(await client.untilClosed()).toMatch(says);
      else await client.until(says);
      expect(rig.ownerGot.size).toBe(0);
    },
  );

  test('a silent client and one that trickles are both told off at the greeting deadline (CASES 60)', async () => {
    const rig = await open({ greetingMs: 300 });
    const silent = keep(rig.plain());
    const trickling = keep(rig.plain());
    const trickle = setInterval(() => trickling.send('x'), 20);
    expect(await silent.untilClosed()).toMatch(/\* BYE Too slow/);
    expect(await trickling.untilClosed()).toMatch(/\* BYE Too slow/);
    clearInterval(trickle);
  });

  test('a client that keeps busy without logging in is cut at the login deadline (CASES 60)', async () => {
    const rig = await open({ greetingMs: 300, loginMs: 500 });
    const client = keep(rig.plain());
    const busy = setInterval(() => client.send('a NOOP\r\n'), 30);
    const startedMs = performance.now();
    expect(await client.untilClosed()).toMatch(/a OK .*\r\n.*\* BYE Too slow/s);
    clearInterval(busy);
    expect(performance.now() - startedMs).toBeGreaterThan(400);
  });

  test('a TLS handshake that never comes is cut (CASES 60)', async () => {
    const rig = await open({ greetingMs: 300 });
    const { connect } = await import('node:net');
    const socket = connect({ port: rig.tlsPort, host: '127.0.0.1' });
    socket.on('error', () => {});
    await new Promise((resolve) => socket.on('close', resolve));
    await rig.emptied();
  });

  test('another protocol by ALPN is refused, the right one and none are served (CASES 63)', async () => {
    const rig = await open();
    await expect(keep(rig.secure({ ALPNProtocols: ['http/1.1'] })).until(/ready/)).rejects.toThrow(/closed/);
    await keep(rig.secure({ ALPNProtocols: ['imap'] })).until(/ready/);
    await keep(rig.secure()).until(/ready/);
  });

  test('an HTTP request is answered with BYE and the end (CASES 63)', async () => {
    const rig = await open();
    const client = keep(rig.plain());
    client.send('POST / HTTP/1.1\r\nHost: x\r\n\r\na LOGIN ann@postern.test right\r\n');
    expect(await client.untilClosed()).toMatch(/\* BYE This is an IMAP server\r\n$/);
    expect(rig.ownerGot.size).toBe(0);
  });

  test('a client that closes its half still gets every answer', async () => {
    const rig = await open({ plaintextLogin: true });
    const client = keep(rig.plain());
    client.socket.end('a LOGIN ann@postern.test right\r\nb NOOP\r\n');
    expect(await client.untilClosed()).toMatch(/a OK .*<ann@postern\.test> b NOOP\r\n$/s);
  });

  test('a client that reads nothing is not answered without bound', async () => {
    const rig = await open({ plaintextLogin: true });
    const client = keep(rig.plain());
    await client.until(/ready/);
    client.socket.pause();
    const flood = Buffer.from('a CAPABILITY\r\n'.repeat(5000));
    let written = 0;
    // It stops when the door has stopped reading and the kernel's buffers are full.
    for (let round = 0; round < 400 && !client.socket.writableNeedDrain; round++) {
      client.send(flood);
      written += flood.length;
      await new Promise((resolve) => setTimeout(resolve, 2));
    }
    await new Promise((resolve) => setTimeout(resolve, 200));
    expect(client.socket.writableLength).toBeGreaterThan(0);
    expect(written).toBeLessThan(28_000_000);
    client.socket.resume();
    client.send('z LOGOUT\r\n');
    expect(await client.untilClosed(20_000)).toMatch(/z OK Done\r\n$/);
  }, 30_000);

  test('when the owner is lost in the middle of a session the client is told', async () => {
    const rig = await open();
    const client = keep(rig.secure());
    client.send('a LOGIN ann@postern.test right\r\n');
    await client.until(/a OK/);
    rig.streams[0]!.destroy(new Error('the backend was killed'));
    expect(await client.untilClosed()).toMatch(/\* BYE \[UNAVAILABLE\] .*\r\n$/);
    await rig.emptied();
  });

  test('when the owner is lost in the middle of a line nothing is added to it', async () => {
    const rig = await open();
    const client = keep(rig.secure());
    client.send('a LOGIN ann@postern.test right\r\n');
    await client.until(/a OK.*\r\n/);
    rig.streams[0]!.push('* 1 FETCH (BODY[] {100}\r\nhalf');
    await client.until(/half/);
    rig.streams[0]!.destroy(new Error('the backend was killed'));
    expect(await client.untilClosed()).toMatch(/half$/);
  });

  test('closing says BYE to who is idle, before and after login', async () => {
    const rig = await open();
    const before = keep(rig.plain());
    const after = keep(rig.secure());
    await before.until(/ready/);
    after.send('a LOGIN ann@postern.test right\r\n');
    await after.until(/a OK/);
    const startedMs = performance.now();
    await rig.drain(3000);
    expect(performance.now() - startedMs).toBeLessThan(1000);
    expect(await before.untilClosed()).toMatch(/\* BYE \[UNAVAILABLE\]/);
    expect(await after.untilClosed()).toMatch(/\* BYE \[UNAVAILABLE\]/);
  });

  test('a hundred clients that come and go leave nothing behind', async () => {
    const rig = await open({ plaintextLogin: true });
    for (let round = 0; round < 10; round++) {
      const some = Array.from({ length: 10 }, () => keep(rig.plain()));
      await Promise.all(
        some.map(async (client, index) => {
          client.send(index % 3 === 0 ? 'a LOGIN ann@postern.test right\r\n' : 'a NOOP\r\n');
          await client.until(/a OK/);
          if (index % 2 === 0) client.socket.destroy();
          else client.socket.end();
        }),
      );
    }
    await rig.emptied();
    expect(rig.told.filter((report) => report.startsWith('disconnected'))).toHaveLength(100);
  });
});
