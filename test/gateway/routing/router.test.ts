import { afterEach, describe, expect, test } from '@jest/globals';
import { silentLog } from '../../../base/log.ts';
import { linkHeader } from '../../../cluster-protocol/link.ts';
import { registryKey } from '../../../cluster-protocol/registry.ts';
import { openRouter } from '../../../gateway/routing/open-router.ts';
import type { Router } from '../../../gateway/routing/router.ts';
import { ClusterRig, type Serve, testSession } from './cluster-rig.ts';

let rig: ClusterRig;
let router: Router;

async function open(ownerWaitMs = 3000): Promise<void> {
  rig = await ClusterRig.open();
  router = await openRouter({ registry: rig.registry, log: silentLog, ownerWaitMs });
}

afterEach(async () => {
  await rig.close(router);
});

const credentials = { mechanism: 'password', user: 'ann@postern.test', password: 'right' } as const;
const yes: Serve = (stream) => {
  stream.respond({ ':status': 200 });
  stream.end();
};
const status =
  (code: number, headers: Record<string, string> = {}): Serve =>
  (stream) => {
    stream.respond({ ':status': code, ...headers });
    stream.end();
  };

/** Reads the body, then answers every recipient with `outcome`. */
const storing =
  (bodies: string[] = [], outcome = 'stored'): Serve =>
  (stream, headers) => {
    const chunks: Buffer[] = [];
    stream.on('data', (chunk: Buffer) => chunks.push(chunk));
    stream.on('end', () => {
      bodies.push(Buffer.concat(chunks).toString());
      const recipients = String(headers[linkHeader.recipients]).split(',').map(decodeURIComponent);
      stream.respond({ ':status': 200 });
      stream.end(JSON.stringify(recipients.map((recipient) => ({ recipient, outcome }))));
    });
  };

const message = (recipients: readonly string[]) => ({
  recipients,
  reversePath: 'bob@example.org',
  size: 10,
  deliveryKey: '0123456789abcdef0123456789abcdef',
  body: () => [Buffer.from('hello '), Buffer.from('mail')],
});

describe('asking the owner', () => {
  test('ready waits for members, map and a link; domains are watched', async () => {
    await open();
    let ready = false;
    const waiting = router.ready().then(() => {
      ready = true;
    });
    await new Promise((resolve) => setTimeout(resolve, 300));
    expect(ready).toBe(false);
    const backend = await rig.backend('backend-1', yes);
    await rig.grant(backend, 1);
    await waiting;
    expect(router.backends()).toEqual(['backend-1']);
    expect(router.isLocalDomain('postern.test')).toBe(false);
    await rig.put(registryKey.domain('postern.test'), '{"name":"postern.test"}');
    for (let wait = 0; wait < 100 && !router.isLocalDomain('postern.test'); wait++)
      await new Promise((resolve) => setTimeout(resolve, 10));
    expect(router.isLocalDomain('postern.test')).toBe(true);
  });

  const answers = [
    { code: 200, recipient: 'yes', login: 'yes' },
    { code: 404, recipient: 'no-such-account', login: 'unavailable' },
    { code: 413, recipient: 'over-quota', login: 'unavailable' },
    { code: 401, recipient: 'unavailable', login: 'no' },
    { code: 500, recipient: 'unavailable', login: 'unavailable' },
  ];
  test.each(answers)(
    '$code is $recipient for a recipient and $login for a login',
    async ({ code, recipient, login }) => {
      await open();
      await rig.grant(await rig.backend('backend-1', status(code)), 1);
      expect(await router.recipient(testSession, 'ann@postern.test', 5)).toBe(recipient);
      expect(await router.login(testSession, credentials)).toBe(login);
    },
  );

  test('the owner is told who asks, by header, with nothing missing', async () => {
    await open();
    const backend = await rig.backend('backend-1', yes);
    await rig.grant(backend, 7);
    await router.recipient(
      { ...testSession, tls: { version: 'TLSv1.3', cipher: 'X', serverName: undefined, alpn: undefined } },
      'ann@postern.test',
      5,
    );
    expect(backend.asked[0]).toMatchObject({
      ':path': '/recipient',
      [linkHeader.version]: '1',
      [linkHeader.account]: 'ann%40postern.test',
      [linkHeader.epoch]: '7',
      [linkHeader.client]: '[2001:db8::7]:4711',
      [linkHeader.tls]: 'TLSv1.3 X',
      [linkHeader.trace]: testSession.id,
      [linkHeader.size]: '5',
    });
  });

  test('a stale map costs one more round trip to the owner the backend names', async () => {
    await open();
    const right = await rig.backend('backend-2', yes);
    const wrong = await rig.backend(
      'backend-1',
      status(421, { [linkHeader.owner]: 'backend-2', [linkHeader.epoch]: '9' }),
    );
    await rig.grant(wrong, 3);
    await router.ready();
    expect(await router.login(testSession, credentials)).toBe('yes');
    expect([wrong.asked.length, right.asked.length]).toEqual([1, 1]);
    expect(right.asked[0]![linkHeader.epoch]).toBe('9');
  });

  test('backends that name each other do not send a request round for ever', async () => {
    await open(500);
    const one = await rig.backend(
      'backend-1',
      status(421, { [linkHeader.owner]: 'backend-2', [linkHeader.epoch]: '9' }),
    );
    const two = await rig.backend(
      'backend-2',
      status(421, { [linkHeader.owner]: 'backend-1', [linkHeader.epoch]: '8' }),
    );
    await rig.grant(one, 3);
    await router.ready();
    expect(await router.login(testSession, credentials)).toBe('unavailable');
    expect(one.asked.length + two.asked.length).toBeLessThan(20);
  });

  test('while nobody owns the account the request waits, and goes on when it is granted', async () => {
    await open();
    const backend = await rig.backend('backend-1', yes);
    await rig.grant(undefined, 1);
    const answer = router.login(testSession, credentials);
    await new Promise((resolve) => setTimeout(resolve, 300));
    expect(backend.asked).toHaveLength(0);
    await rig.grant(backend, 2);
    expect(await answer).toBe('yes');
  });

  test('when nobody owns the account for too long the client is told, in time', async () => {
    await open(400);
    await rig.backend('backend-1', yes);
    await rig.grant(undefined, 1);
    const startedMs = performance.now();
    expect(await router.login(testSession, credentials)).toBe('unavailable');
    expect(await router.openSession(testSession, 'imap', credentials)).toEqual({ outcome: 'unavailable' });
    expect(performance.now() - startedMs).toBeLessThan(2500);
  });

  test('an owner that dies before it answers is asked again where the account is then', async () => {
    await open();
    const first = await rig.backend('backend-1', () => {});
    await rig.grant(first, 1);
    await router.ready();
    const answer = router.login(testSession, credentials);
    while (first.asked.length === 0) await new Promise((resolve) => setTimeout(resolve, 5));
    await first.die();
    await rig.remove(registryKey.member('backend-1'));
    const second = await rig.backend('backend-1', yes);
    await rig.grant(second, 2);
    expect(await answer).toBe('yes');
    expect(second.asked[0]![linkHeader.epoch]).toBe('2');
  });

  test('busy is asked again, a limit is an answer', async () => {
    await open();
    let times = 0;
    const backend = await rig.backend('backend-1', (stream, headers) => {
      if (++times === 1) status(503, { [linkHeader.reason]: 'busy' })(stream, headers);
      else status(503, { [linkHeader.reason]: 'limit' })(stream, headers);
    });
    await rig.grant(backend, 1);
    expect(await router.openSession(testSession, 'imap', credentials)).toEqual({
      outcome: 'refused',
      reason: 'limit',
    });
    expect(times).toBe(2);
  });
});

describe('sessions', () => {
  test('an accepted session carries bytes both ways, and forgets the password', async () => {
    await open();
    const backend = await rig.backend('backend-1', (stream) => {
      stream.respond({ ':status': 200, [linkHeader.capability]: 'IMAP4rev1 IDLE' });
      stream.on('data', (chunk: Buffer) => stream.write(`<${chunk}>`));
      stream.on('end', () => stream.end());
    });
    await rig.grant(backend, 1);
    const opened = await router.openSession(testSession, 'imap', credentials);
    if (opened.outcome !== 'accepted') throw new Error(opened.outcome);
    expect(opened.capability).toBe('IMAP4rev1 IDLE');
    const sent = (opened.stream as unknown as { sentHeaders: unknown }).sentHeaders;
    expect(JSON.stringify(sent ?? {})).not.toMatch(/credentials/);
    const got = new Promise<string>((resolve) =>
      opened.stream.once('data', (chunk) => resolve(String(chunk))),
    );
    opened.stream.write(Buffer.from('a NOOP'));
    expect(await got).toBe('<a NOOP>');
    const heard = backend.asked[0]![linkHeader.credentials];
    expect(JSON.parse(Buffer.from(String(heard), 'base64').toString())).toEqual(credentials);
    const ended = new Promise((resolve) => opened.stream.once('end', resolve));
    opened.stream.end();
    opened.stream.resume();
    await ended;
  });

  test('a refused session says why, and nothing stays open', async () => {
    await open();
    await rig.grant(await rig.backend('backend-1', status(401, { [linkHeader.reason]: 'credentials' })), 1);
    expect(await router.openSession(testSession, 'pop3', credentials)).toEqual({
      outcome: 'refused',
      reason: 'credentials',
    });
  });

  test('a session whose backend dies closes', async () => {
    await open();
    const backend = await rig.backend('backend-1', (stream) => stream.respond({ ':status': 200 }));
    await rig.grant(backend, 1);
    const opened = await router.openSession(testSession, 'imap', credentials);
    if (opened.outcome !== 'accepted') throw new Error(opened.outcome);
    opened.stream.on('error', () => {});
    const closed = new Promise((resolve) => opened.stream.once('close', resolve));
    await backend.die();
    await closed;
    expect(opened.stream.readableEnded).toBe(false);
  });

  test('two thousand sessions live side by side on the links', async () => {
    await open();
    await rig.grant(await rig.backend('backend-1', (stream) => stream.respond({ ':status': 200 })), 1);
    await router.ready();
    const opened = await Promise.all(
      Array.from({ length: 2000 }, () => router.openSession(testSession, 'imap', credentials)),
    );
    expect(opened.filter(({ outcome }) => outcome === 'accepted')).toHaveLength(2000);
    for (const one of opened) if (one.outcome === 'accepted') one.stream.on('error', () => {}).destroy();
  });
});

describe('delivering', () => {
  test('all recipients of one owner go in one stream with the whole message', async () => {
    await open();
    const bodies: string[] = [];
    const backend = await rig.backend('backend-1', storing(bodies));
    await rig.grant(backend, 1);
    const answers = await router.deliver(testSession, message(['ann@postern.test', 'bob@postern.test']));
    expect(answers).toEqual([
      { recipient: 'ann@postern.test', outcome: 'stored' },
      { recipient: 'bob@postern.test', outcome: 'stored' },
    ]);
    expect(bodies).toEqual(['hello mail']);
    expect(backend.asked[0]).toMatchObject({
      [linkHeader.recipients]: 'ann%40postern.test,bob%40postern.test',
      [linkHeader.reversePath]: 'bob%40example.org',
      [linkHeader.size]: '10',
      [linkHeader.deliveryKey]: '0123456789abcdef0123456789abcdef',
    });
  });

  test('two hundred and fifty recipients go in streams of at most a hundred', async () => {
    await open();
    const bodies: string[] = [];
    await rig.grant(await rig.backend('backend-1', storing(bodies)), 1);
    const recipients = Array.from({ length: 250 }, (_, index) => `u${index}@postern.test`);
    const answers = await router.deliver(testSession, message(recipients));
    expect(answers.map(({ recipient }) => recipient)).toEqual(recipients);
    expect(new Set(answers.map(({ outcome }) => outcome))).toEqual(new Set(['stored']));
    expect(bodies).toHaveLength(3);
  });

  test('an owner that dies after it has the message and before it answers gets it again, under the same key', async () => {
    await open();
    const first = await rig.backend('backend-1', (stream) => {
      stream.resume();
    });
    await rig.grant(first, 1);
    await router.ready();
    const answer = router.deliver(testSession, message(['ann@postern.test']));
    while (first.asked.length === 0) await new Promise((resolve) => setTimeout(resolve, 5));
    await new Promise((resolve) => setTimeout(resolve, 30));
    await first.die();
    const bodies: string[] = [];
    const second = await rig.backend('backend-1', storing(bodies, 'already'));
    await rig.grant(second, 2);
    expect(await answer).toEqual([{ recipient: 'ann@postern.test', outcome: 'already' }]);
    expect(bodies).toEqual(['hello mail']);
    expect(second.asked[0]![linkHeader.deliveryKey]).toBe(first.asked[0]![linkHeader.deliveryKey]);
  });

  test('recipients that have moved are delivered where they are now, the others once (CASES 12)', async () => {
    await open();
    const second = await rig.backend('backend-2', storing());
    const first = await rig.backend('backend-1', (stream, headers) => {
      stream.resume();
      stream.on('end', () => {
        const recipients = String(headers[linkHeader.recipients]).split(',').map(decodeURIComponent);
        stream.respond({ ':status': 200 });
        const outcome = (recipient: string): string => (recipient.startsWith('ann') ? 'not-owner' : 'stored');
        stream.end(
          JSON.stringify(recipients.map((recipient) => ({ recipient, outcome: outcome(recipient) }))),
        );
        void rig.grant(second, 5);
      });
    });
    await rig.grant(first, 1);
    await router.ready();
    const answers = await router.deliver(testSession, message(['ann@postern.test', 'bob@postern.test']));
    expect(answers.map(({ outcome }) => outcome)).toEqual(['stored', 'stored']);
    expect(first.asked).toHaveLength(1);
    expect(second.asked.map((headers) => headers[linkHeader.recipients])).toEqual(['ann%40postern.test']);
  });

  const nonsense = [
    { name: 'no JSON', answer: 'stored' },
    { name: 'no list', answer: '{"recipient":"ann@postern.test","outcome":"stored"}' },
    { name: 'somebody else', answer: '[{"recipient":"eve@postern.test","outcome":"stored"}]' },
    { name: 'an unknown outcome', answer: '[{"recipient":"ann@postern.test","outcome":"fine"}]' },
    { name: 'null', answer: '[null]' },
  ];
  test.each(nonsense)('an answer that is $name is never taken for stored', async ({ answer }) => {
    await open(300);
    const backend = await rig.backend('backend-1', (stream) => {
      stream.resume();
      stream.on('end', () => {
        stream.respond({ ':status': 200 });
        stream.end(answer);
      });
    });
    await rig.grant(backend, 1);
    const answers = await router.deliver(testSession, message(['ann@postern.test']));
    expect(answers.map(({ outcome }) => outcome)).toEqual(['failed']);
  });

  test('an answer that breaks off is never taken for stored, however whole it looks', async () => {
    await open(300);
    const backend = await rig.backend('backend-1', (stream) => {
      stream.resume();
      stream.on('end', () => {
        stream.respond({ ':status': 200 });
        stream.write('[{"recipient":"ann@postern.test","outcome":"stored"}]');
        setTimeout(() => void backend.die(), 50);
      });
    });
    await rig.grant(backend, 1);
    const answers = await router.deliver(testSession, message(['ann@postern.test']));
    expect(answers.map(({ outcome }) => outcome)).toEqual(['failed']);
  });

  test('a backend that refuses before the body is heard at once', async () => {
    await open();
    const backend = await rig.backend('backend-1', (stream) => {
      stream.respond({ ':status': 507 });
      stream.end();
    });
    await rig.grant(backend, 1);
    const big = {
      ...message(['ann@postern.test']),
      body: () => Array.from({ length: 100 }, () => Buffer.alloc(65_536)),
    };
    expect(await router.deliver(testSession, big)).toEqual([
      { recipient: 'ann@postern.test', outcome: 'no-space', detail: 'status 507' },
    ]);
  });

  test('without an owner in time the recipients come back failed', async () => {
    await open(300);
    await rig.backend('backend-1', storing());
    await rig.grant(undefined, 1);
    expect(await router.deliver(testSession, message(['ann@postern.test']))).toEqual([
      { recipient: 'ann@postern.test', outcome: 'failed', detail: 'owner not reached' },
    ]);
  });
});

describe('other requests', () => {
  test('go to the owner with their body, or to one member by its id', async () => {
    await open();
    const backend = await rig.backend('backend-1', (stream, headers) => {
      let body = '';
      stream.on('data', (chunk) => {
        body += chunk;
      });
      stream.on('end', () => {
        stream.respond({ ':status': 200 });
        stream.end(`${headers[':path']} ${body}`);
      });
    });
    await rig.grant(backend, 1);
    await router.ready();
    const read = async (stream: AsyncIterable<Buffer>): Promise<string> => {
      let text = '';
      for await (const chunk of stream) text += chunk;
      return text;
    };
    const owned = await router.request('http', 'ann@postern.test', { 'x-test': '1' }, Buffer.from('body'));
    expect(await read(owned.stream)).toBe('/http body');
    const named = await router.requestMember('admin', 'backend-1', {}, Buffer.from('{}'));
    expect(await read(named.stream)).toBe('/admin {}');
    await expect(router.requestMember('admin', 'backend-9', {})).rejects.toMatchObject({
      code: 'unavailable',
    });
  });

  test('are not repeated when they broke: whether they were done is not known', async () => {
    await open();
    let times = 0;
    const backend = await rig.backend('backend-1', (stream) => {
      times++;
      stream.close(2);
    });
    await rig.grant(backend, 1);
    await router.ready();
    await expect(router.request('admin', 'ann@postern.test', {}, Buffer.from('{}'))).rejects.toMatchObject({
      code: 'unavailable',
    });
    expect(times).toBe(1);
  });

  test('without an owner reject with no-owner', async () => {
    await open(300);
    await rig.grant(undefined, 1);
    await expect(router.request('http', 'ann@postern.test', {})).rejects.toMatchObject({ code: 'no-owner' });
  });
});

describe('what owners say in a header alone', () => {
  const key = '0123456789abcdef0123456789abcdef';
  const told =
    (outcomes: string): Serve =>
    (stream) => {
      stream.resume();
      stream.on('end', () => {
        stream.respond({ ':status': 200, [linkHeader.outcomes]: outcomes }, { endStream: true });
      });
    };

  test('outcomes are in the order of the recipients', async () => {
    await open();
    await rig.grant(await rig.backend('backend-1', told('stored,already')), 1);
    expect(await router.deliver(testSession, message(['ann@postern.test', 'bob@postern.test']))).toEqual([
      { recipient: 'ann@postern.test', outcome: 'stored' },
      { recipient: 'bob@postern.test', outcome: 'already' },
    ]);
  });

  test.each(['stored', 'stored,stored,stored', 'stored,yes', ''])(
    'outcomes that fit nothing ("%s") are no answer',
    async (outcomes) => {
      await open(200);
      await rig.grant(await rig.backend('backend-1', told(outcomes)), 1);
      const answers = await router.deliver(testSession, message(['ann@postern.test', 'bob@postern.test']));
      expect(answers.map(({ outcome }) => outcome)).toEqual(['failed', 'failed']);
    },
  );

  test('settled keys go to the owner together, each with its account', async () => {
    await open();
    const backend = await rig.backend('backend-1', yes);
    await rig.grant(backend, 7);
    await router.ready();
    router.settle(key, ['ann@postern.test', 'bob@postern.test']);
    router.settle(key.replace('0', '1'), ['ann@postern.test']);
    for (let wait = 0; wait < 100 && backend.asked.length === 0; wait++)
      await new Promise((resolve) => setTimeout(resolve, 10));
    expect(backend.asked).toHaveLength(1);
    expect(backend.asked[0]).toMatchObject({ ':path': '/settle', [linkHeader.epoch]: '7' });
    expect(String(backend.asked[0]![linkHeader.settled]).split(',').sort()).toEqual([
      `${key}=ann%40postern.test`,
      `${key}=bob%40postern.test`,
      `${key.replace('0', '1')}=ann%40postern.test`,
    ]);
  });

  test('more than a request may hold go in several', async () => {
    await open();
    const backend = await rig.backend('backend-1', yes);
    await rig.grant(backend, 7);
    await router.ready();
    const many = Array.from(
      { length: 130 },
      (_, n) => `${'u'.repeat(60)}${n}@${'d'.repeat(60)}.${'e'.repeat(60)}.test`,
    );
    router.settle(key, many);
    const words = (): string[] =>
      backend.asked.flatMap((headers) => String(headers[linkHeader.settled]).split(','));
    for (let wait = 0; wait < 100 && words().length < 130; wait++)
      await new Promise((resolve) => setTimeout(resolve, 10));
    expect(new Set(words()).size).toBe(130);
    for (const { [linkHeader.settled]: text } of backend.asked)
      expect(String(text).length).toBeLessThan(32_000);
  });
});
