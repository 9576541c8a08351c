/** JMAP from the owner's side, over a real link stream and a real account: bad requests first. */
import { afterAll, afterEach, beforeEach, describe, expect, test } from '@jest/globals';
import { type Answer, credentialsOf, openServiceRig, removeRoots, type ServiceRig } from '../service-rig.ts';

const ann = 'ann@postern.test';
const core = 'urn:ietf:params:jmap:core';
const mail = 'urn:ietf:params:jmap:mail';
let rig: ServiceRig;
let accountId: string;

beforeEach(async () => {
  rig = await openServiceRig();
  accountId = Object.keys(json(await http('GET', '/jmap/session')).accounts as object)[0] as string;
});
afterEach(async () => {
  await rig.close();
});
afterAll(removeRoots);

async function http(method: string, path: string, body?: string, secret?: string): Promise<Answer> {
  return await rig.ask(
    'http',
    {
      'postern-account': encodeURIComponent(ann),
      'postern-credentials': credentialsOf(ann, secret),
      'postern-http-method': method,
      'postern-http-path': path,
      'postern-http-authority': 'mail.example.org:8443',
    },
    body,
  );
}

function json(answer: Answer): Record<string, unknown> {
  return JSON.parse(answer.body.toString()) as Record<string, unknown>;
}

type Args = Record<string, unknown>;

/** Calls methods; gives the answers as [name, arguments] pairs. */
async function call(...calls: readonly (readonly [string, Args])[]): Promise<[string, Args][]> {
  const methodCalls = calls.map(([name, args], at) => [name, { accountId, ...args }, `c${at}`]);
  const answer = await http('POST', '/jmap/api', JSON.stringify({ using: [core, mail], methodCalls }));
  expect(answer.headers['postern-status']).toBe('200');
  return (json(answer).methodResponses as [string, Args, string][]).map(([name, args]) => [name, args]);
}

async function one(name: string, args: Args = {}): Promise<Args> {
  const [[answered, result]] = (await call([name, args])) as [[string, Args]];
  expect(answered).toBe(name);
  return result;
}

async function fill(
  folder: string,
  messages: readonly string[],
  facts: { flags?: number; keywords?: string[]; at?: number } = {},
): Promise<void> {
  const account = await rig.accounts.open(ann);
  const names = account.store.listFolders().map(({ name }) => name);
  const target = names.includes(folder)
    ? await account.store.folder(folder)
    : await account.store.createFolder(folder);
  let number = 0;
  for (const message of messages) {
    const bytes = Buffer.from(message.replaceAll(/\r?\n/g, '\r\n'), 'latin1');
    const internalDateMs = (facts.at ?? Date.UTC(2024, 0, 1)) + number++ * 60_000;
    const incoming = await target.append(
      { flags: facts.flags ?? 0, keywords: facts.keywords ?? [], internalDateMs },
      bytes.length,
    );
    await incoming.write(bytes);
    await incoming.commit();
  }
  account.release();
}

const rich = `From: =?utf-8?q?Ann_=C3=84?= <ann@example.org>, "B, C" <bc@example.org>
To: Friends: dan@example.org, Eve <eve@example.org>;
Cc: nobody@example.org
Subject: =?utf-8?b?R3LDvMOfZQ==?= from
 here
Message-ID: <1@example.org>
References: <a@example.org> <b@example.org>
Date: Tue, 1 Jul 2003 10:52:37 +0200
X-Note: one
X-Note: two
MIME-Version: 1.0
Content-Type: multipart/mixed; boundary=o

--o
Content-Type: multipart/alternative; boundary=i

--i
Content-Type: text/plain; charset=utf-8
Content-Transfer-Encoding: quoted-printable

Gr=C3=BC=C3=9Fe, hello=
 there
--i
Content-Type: text/html; charset=utf-8

<style>p { x: y }</style><p>Hello &amp; there</p>
--i--
--o
Content-Type: image/png; name="x.png"
Content-Transfer-Encoding: base64
Content-Disposition: attachment; filename*=UTF-8''..%2F..%2Fp%C3%A4.png
Content-ID: <c1@example.org>

AAECAwQFBgc=
--o--
`;

describe('a request that cannot be answered as a whole', () => {
  const rows: (readonly [string, string, string])[] = [
    ['not JSON', '{', 'notJSON'],
    ['not UTF-8', '"\xff\xfe"', 'notRequest'],
    ['an array', '[]', 'notRequest'],
    ['no using', '{"methodCalls":[]}', 'notRequest'],
    ['calls that are no calls', `{"using":["${core}"],"methodCalls":[["Core/echo",{}]]}`, 'notRequest'],
    ['an unknown capability', '{"using":["urn:x"],"methodCalls":[]}', 'unknownCapability'],
    [
      'too many calls',
      JSON.stringify({
        using: [core],
        methodCalls: Array.from({ length: 17 }, () => ['Core/echo', {}, 'a']),
      }),
      'limit',
    ],
  ];
  test.each(rows)('%s', async (_name, body, type) => {
    const answer = await http('POST', '/jmap/api', body);
    expect(answer.headers).toMatchObject({
      'postern-status': '400',
      'content-type': 'application/problem+json',
    });
    expect(json(answer).type).toBe(`urn:ietf:params:jmap:error:${type}`);
  });

  test('a body over the limit is refused', async () => {
    const answer = await http('POST', '/jmap/api', ' '.repeat(1_100_000));
    expect(answer.status).toBe(400);
  });

  test('deep nesting is no trouble', async () => {
    const deep = `${'['.repeat(100_000)}${']'.repeat(100_000)}`;
    const answer = await http(
      'POST',
      '/jmap/api',
      `{"using":["${core}"],"methodCalls":[["Core/echo",{"a":${deep}},"x"]]}`,
    );
    expect([200, 400, 500]).toContain(answer.status);
    expect((await http('GET', '/jmap/session')).status).toBe(200);
  });

  test('a wrong password is 401 on the link', async () => {
    expect((await http('GET', '/jmap/session', undefined, 'wrong')).status).toBe(401);
  });

  test.each(['/jmap/upload/x', '/other', '/jmap/download/A0/m1/x'])('%s is 404', async (path) => {
    expect((await http('GET', path)).headers['postern-status']).toBe('404');
  });
});

describe('a method that cannot be answered', () => {
  const rows: (readonly [string, Args, string])[] = [
    ['Email/set', {}, 'unknownMethod'],
    ['constructor', {}, 'unknownMethod'],
    ['Mailbox/get', { accountId: 'A0' }, 'accountNotFound'],
    ['Mailbox/get', { accountId: null }, 'invalidArguments'],
    ['Mailbox/get', { ids: 'x' }, 'invalidArguments'],
    ['Mailbox/get', { properties: ['nope'] }, 'invalidArguments'],
    ['Email/get', { ids: null }, 'requestTooLarge'],
    ['Email/get', { ids: Array.from({ length: 501 }, (_, n) => `e${n}`) }, 'requestTooLarge'],
    ['Email/get', { ids: ['../x'] }, 'invalidArguments'],
    ['Email/get', { ids: [], properties: ['header:From:asNothing'] }, 'invalidArguments'],
    ['Email/get', { ids: [], bodyProperties: ['nope'] }, 'invalidArguments'],
    ['Email/get', { ids: [], maxBodyValueBytes: -1 }, 'invalidArguments'],
    ['Email/query', { filter: { text: 'x' } }, 'unsupportedFilter'],
    ['Email/query', { filter: { operator: 'XOR', conditions: [] } }, 'invalidArguments'],
    ['Email/query', { filter: { before: 'yesterday' } }, 'invalidArguments'],
    ['Email/query', { sort: [{ property: 'subject' }] }, 'unsupportedSort'],
    ['Email/query', { anchor: 'gone' }, 'anchorNotFound'],
    ['Email/query', { nonsense: 1 }, 'invalidArguments'],
    ['Email/changes', { sinceState: 'x' }, 'cannotCalculateChanges'],
    [
      'Email/get',
      { '#ids': { resultOf: 'c9', name: 'Email/query', path: '/ids' } },
      'invalidResultReference',
    ],
    ['Email/get', { '#ids': 'x' }, 'invalidResultReference'],
    ['Email/get', { ids: [], '#ids': { resultOf: 'c0', name: 'x', path: '/ids' } }, 'invalidArguments'],
  ];
  test.each(rows)('%s %j: %s', async (name, args, type) => {
    const [[answered, error], [after]] = (await call([name, args], ['Core/echo', {}])) as [
      [string, Args],
      [string, Args],
    ];
    expect([answered, error.type]).toEqual(['error', type]);
    expect(after).toBe('Core/echo');
  });

  test('a filter nested too deep is refused', async () => {
    let filter: Args = { inMailbox: 'x' };
    for (let n = 0; n < 50; n += 1) filter = { operator: 'AND', conditions: [filter] };
    const [[, error]] = (await call(['Email/query', { filter }])) as [[string, Args]];
    expect(error.type).toBe('unsupportedFilter');
  });
});

test('the session resource says where things are and what may be asked', async () => {
  for (const path of ['/jmap/session', '/.well-known/jmap']) {
    const answer = await http('GET', path);
    const session = json(answer);
    expect(session).toMatchObject({
      username: ann,
      apiUrl: 'https://mail.example.org:8443/jmap/api',
      primaryAccounts: { [mail]: accountId },
    });
    expect(session.downloadUrl).toContain('{blobId}');
    expect((session.capabilities as Args)[core]).toMatchObject({
      maxCallsInRequest: 16,
      maxObjectsInGet: 500,
    });
  }
});

test('Core/echo gives back what it got', async () => {
  expect(await one('Core/echo', { hello: [1, { a: null }] })).toEqual({ accountId, hello: [1, { a: null }] });
});

test('mailboxes have names, parents, roles and counts', async () => {
  await fill('INBOX', ['a: b\n\nx', 'a: b\n\ny']);
  await fill('Work/2024', ['a: b\n\nz'], { flags: 1 });
  const { list, notFound } = await one('Mailbox/get', { ids: null });
  expect(notFound).toEqual([]);
  const byName = Object.fromEntries((list as Args[]).map((box) => [box.name as string, box]));
  expect(byName.INBOX).toMatchObject({ role: 'inbox', parentId: null, totalEmails: 2, unreadEmails: 2 });
  expect(byName['2024']).toMatchObject({ parentId: byName.Work?.id, totalEmails: 1, unreadEmails: 0 });
  const inbox = await one('Mailbox/query', { filter: { role: 'inbox' } });
  expect(inbox.ids).toEqual([byName.INBOX?.id]);
});

describe('Email/query', () => {
  test('sorts, filters, cuts and counts', async () => {
    await fill('INBOX', ['a: 1\n\nx', 'a: 2\n\nxxxx', 'a: 3\n\nxx'], { at: Date.UTC(2024, 0, 1) });
    await fill('Old', ['a: 4\n\nx'], { at: Date.UTC(2020, 0, 1), flags: 1, keywords: ['Work'] });
    const inboxId = ((await one('Mailbox/query', { filter: { role: 'inbox' } })).ids as string[])[0];
    const all = (await one('Email/query', { calculateTotal: true })) as { ids: string[]; total: number };
    expect(all.total).toBe(4);
    const [third, second, first, old] = all.ids;
    const rows: (readonly [Args, readonly (string | undefined)[]])[] = [
      [{ filter: { inMailbox: inboxId } }, [third, second, first]],
      [{ filter: { inMailboxOtherThan: [inboxId] } }, [old]],
      [{ sort: [{ property: 'receivedAt', isAscending: true }] }, [old, first, second, third]],
      [{ sort: [{ property: 'size', isAscending: false }], limit: 1 }, [second]],
      [{ position: 1, limit: 2 }, [second, first]],
      [{ position: -1 }, [old]],
      [{ position: 99 }, []],
      [{ anchor: second, anchorOffset: 1, limit: 1 }, [first]],
      [{ filter: { before: '2021-01-01T00:00:00Z' } }, [old]],
      [{ filter: { after: '2021-01-01T00:00:00Z', maxSize: 10 } }, [first]],
      [{ filter: { hasKeyword: '$seen' } }, [old]],
      [{ filter: { notKeyword: 'work' } }, [third, second, first]],
      [{ filter: { operator: 'NOT', conditions: [{ inMailbox: inboxId }] } }, [old]],
      [{ filter: { operator: 'AND', conditions: [{ inMailbox: inboxId }, { minSize: 11 }] } }, [second]],
    ];
    for (const [args, ids] of rows) expect([args, (await one('Email/query', args)).ids]).toEqual([args, ids]);
  });

  test('an email in two mailboxes is one email, and a moved one keeps its id', async () => {
    await fill('INBOX', ['a: 1\n\nx']);
    const before = (await one('Email/query')).ids as string[];
    const account = await rig.accounts.open(ann);
    const inbox = await account.store.folder('INBOX');
    const other = await account.store.createFolder('Other');
    await inbox.copyTo(other, [1]);
    expect((await one('Email/query')).ids).toEqual(before);
    const both = await one('Email/get', { ids: before, properties: ['mailboxIds'] });
    expect(Object.keys((both.list as Args[])[0]?.mailboxIds as object).sort()).toEqual(
      [inbox.mailboxId, other.mailboxId].sort(),
    );
    await inbox.expunge([1]);
    const moved = await one('Email/get', { ids: before, properties: ['mailboxIds'] });
    expect((moved.list as Args[])[0]).toEqual({ id: before[0], mailboxIds: { [other.mailboxId]: true } });
    account.release();
  });
});

describe('Email/get', () => {
  test('shows header, people and keywords', async () => {
    await fill('INBOX', [rich], { flags: 1 | 4, keywords: ['Work'], at: Date.UTC(2024, 4, 5, 6, 7, 8) });
    const answers = await call(
      ['Email/query', {}],
      [
        'Email/get',
        {
          '#ids': { resultOf: 'c0', name: 'Email/query', path: '/ids' },
          properties: [
            'blobId',
            'keywords',
            'receivedAt',
            'size',
            'messageId',
            'references',
            'inReplyTo',
            'from',
            'to',
            'cc',
            'subject',
            'sentAt',
            'header:X-Note:asText:all',
            'header:x-note',
            'header:to:asGroupedAddresses',
            'header:none',
          ],
        },
      ],
    );
    const email = ((answers[1]?.[1].list as Args[]) ?? [])[0];
    expect(email).toMatchObject({
      keywords: { $seen: true, $flagged: true, work: true },
      receivedAt: '2024-05-05T06:07:08Z',
      size: Buffer.byteLength(rich.replaceAll('\n', '\r\n')),
      messageId: ['1@example.org'],
      references: ['a@example.org', 'b@example.org'],
      inReplyTo: null,
      from: [
        { name: 'Ann Ä', email: 'ann@example.org' },
        { name: 'B, C', email: 'bc@example.org' },
      ],
      to: [
        { name: null, email: 'dan@example.org' },
        { name: 'Eve', email: 'eve@example.org' },
      ],
      subject: 'Grüße from here',
      sentAt: '2003-07-01T10:52:37+02:00',
      'header:X-Note:asText:all': ['one', 'two'],
      'header:x-note': ' two',
      'header:none': null,
      'header:to:asGroupedAddresses': [
        {
          name: 'Friends',
          addresses: [
            { name: null, email: 'dan@example.org' },
            { name: 'Eve', email: 'eve@example.org' },
          ],
        },
      ],
    });
  });

  test('shows the parts, their text and a preview', async () => {
    await fill('INBOX', [rich]);
    const { ids } = await one('Email/query');
    const { list } = await one('Email/get', {
      ids,
      fetchTextBodyValues: true,
      fetchHTMLBodyValues: true,
      properties: [
        'bodyStructure',
        'textBody',
        'htmlBody',
        'attachments',
        'bodyValues',
        'hasAttachment',
        'preview',
      ],
    });
    const [email] = list as [Args];
    expect(email).toMatchObject({
      hasAttachment: true,
      preview: 'Grüße, hello there',
      textBody: [{ partId: '1.1', type: 'text/plain', charset: 'utf-8' }],
      htmlBody: [{ partId: '1.2', type: 'text/html' }],
      attachments: [
        {
          partId: '2',
          type: 'image/png',
          size: 8,
          name: '../../pä.png',
          disposition: 'attachment',
          cid: 'c1@example.org',
        },
      ],
      bodyStructure: {
        type: 'multipart/mixed',
        partId: null,
        blobId: null,
        subParts: [{ type: 'multipart/alternative', subParts: [{}, {}] }, {}],
      },
      bodyValues: {
        '1.1': { value: 'Grüße, hello there', isTruncated: false, isEncodingProblem: false },
      },
    });
    const cut = await one('Email/get', {
      ids,
      fetchTextBodyValues: true,
      maxBodyValueBytes: 4,
      properties: ['bodyValues'],
    });
    expect((cut.list as Args[])[0]?.bodyValues).toMatchObject({
      '1.1': { value: 'Gr\u00fc', isTruncated: true },
    });
  });

  test('an email that is not there is in notFound', async () => {
    expect(await one('Email/get', { ids: ['nope'] })).toMatchObject({ list: [], notFound: ['nope'] });
  });

  test('ten thousand nested multiparts are answered soon', async () => {
    const nested = Array.from(
      { length: 10_000 },
      (_, n) => `Content-Type: multipart/mixed; boundary=b${n}\n\n--b${n}\n`,
    ).join('');
    await fill('INBOX', [nested]);
    const { ids } = await one('Email/query');
    const startedAtMs = performance.now();
    const { list } = await one('Email/get', { ids, fetchAllBodyValues: true });
    expect(list).toHaveLength(1);
    expect(performance.now() - startedAtMs).toBeLessThan(3000);
  });
});

describe('download', () => {
  async function blobs(): Promise<{ whole: string; part: string }> {
    const { ids } = await one('Email/query');
    const { list } = await one('Email/get', { ids, properties: ['blobId', 'attachments'] });
    const [email] = list as [{ blobId: string; attachments: { blobId: string }[] }];
    return { whole: email.blobId, part: email.attachments[0]?.blobId as string };
  }

  test('a message comes byte for byte, as an attachment', async () => {
    await fill('INBOX', [rich]);
    const { whole } = await blobs();
    const answer = await http('GET', `/jmap/download/${accountId}/${whole}/my%20mail.eml?accept=text/html`);
    expect(answer.headers['postern-status']).toBe('200');
    expect(answer.headers['content-disposition']).toBe("attachment; filename*=UTF-8''my%20mail.eml");
    expect(answer.headers['content-type']).toBe('text/html');
    expect(answer.body.toString('latin1')).toBe(rich.replaceAll('\n', '\r\n'));
  });

  test('a part comes decoded', async () => {
    await fill('INBOX', [rich]);
    const { part } = await blobs();
    const answer = await http('GET', `/jmap/download/${accountId}/${part}/x.png?accept=a%0d%0ab`);
    expect([...answer.body]).toEqual([0, 1, 2, 3, 4, 5, 6, 7]);
    expect(answer.headers['content-type']).toBe('application/octet-stream');
  });

  test('HEAD gives no body', async () => {
    await fill('INBOX', [rich]);
    const { whole } = await blobs();
    const answer = await http('HEAD', `/jmap/download/${accountId}/${whole}/x`);
    expect([answer.headers['postern-status'], answer.body.length]).toEqual(['200', 0]);
  });

  test.each(['m0', 'p1-0', 'p9_9-0', 'x', '..', 'm..%2f..'])('blob %s is 404', async (blob) => {
    const answer = await http('GET', `/jmap/download/${accountId}/${blob}/x`);
    expect(answer.headers['postern-status']).toBe('404');
  });

  test('a name cannot leave its header', async () => {
    await fill('INBOX', [rich]);
    const { whole } = await blobs();
    const answer = await http(
      'GET',
      `/jmap/download/${accountId}/${whole}/${encodeURIComponent('../../x";\r\ny')}`,
    );
    expect(answer.headers['content-disposition']).toBe("attachment; filename*=UTF-8''.._.._x%22%3B__y");
  });
});
