/** Python's imaplib, in its own strict reading of IMAP, over every command it has, through the whole path. */
import { writeFile } from 'node:fs/promises';
import path from 'node:path';
import { afterAll, beforeAll, expect, test } from '@jest/globals';
import { type Cluster, startCluster } from '../support/cluster.ts';
import { requireDebianPackages } from '../support/debian.ts';
import { run } from './mail-readers.ts';

let cluster: Cluster;

beforeAll(async () => {
  await requireDebianPackages(['python3']);
  cluster = await startCluster({});
}, 180_000);

afterAll(async () => {
  await cluster?.stop();
});

const script = String.raw`
import imaplib, ssl, sys, time
host, port, user, password, ca = sys.argv[1:6]
imaplib.Debug = 0
def connect():
    c = imaplib.IMAP4_SSL(host, int(port), ssl_context=ssl.create_default_context(cafile=ca))
    c.login(user, password)
    c._get_capabilities()
    return c
def ok(answer, wanted='OK'):
    typ, data = answer
    assert typ == wanted, answer
    return data
c = connect()
assert 'IMAP4REV1' in c.capabilities and 'CONDSTORE' in c.capabilities, c.capabilities
ok(c.noop())
ok(c.namespace())
ok(c.enable('CONDSTORE'))
ok(c.create('Work'))
ok(c.create('Work'), 'NO')
ok(c.create('Work/deep'))
ok(c.subscribe('Work'))
assert any(b'Work' in line for line in ok(c.lsub()))
assert any(b'Work/deep' in line for line in ok(c.list()))
assert ok(c.list('""', 'Work%'))[0].endswith(b'Work')
ok(c.unsubscribe('Work'))
message = b'From: a@x.org\r\nTo: b@x.org\r\nSubject: %s\r\nMessage-ID: <%d@x>\r\n\r\nbody %d\r\n'
for i, subject in enumerate([b'pear', b'Re: apple', b'apple']):
    ok(c.append('Work', r'(\Seen)' if i == 1 else None, imaplib.Time2Internaldate(1700000000 + i * 86400), message % (subject, i, i)))
assert ok(c.status('Work', '(MESSAGES UNSEEN SIZE HIGHESTMODSEQ)'))[0].startswith(b'Work (MESSAGES 3 UNSEEN 2')
assert ok(c.select('Work', readonly=True)) == [b'3']
ok(c.select('Work'))
assert ok(c.search(None, 'SUBJECT', 'apple')) == [b'2 3']
assert ok(c.search('UTF-8', 'UNSEEN', 'BODY', '"body 2"')) == [b'3']
assert ok(c.sort('(SUBJECT DATE)', 'UTF-8', 'ALL')) == [b'2 3 1']
assert ok(c.thread('REFERENCES', 'UTF-8', 'ALL')) == [b'(1)(3 2)'], c.thread('REFERENCES', 'UTF-8', 'ALL')
data = ok(c.fetch('1:*', '(UID FLAGS INTERNALDATE RFC822.SIZE ENVELOPE BODYSTRUCTURE)'))
assert len(data) == 3 and b'"pear"' in data[0], data
data = ok(c.fetch('2', '(BODY.PEEK[HEADER.FIELDS (SUBJECT)] BODY.PEEK[TEXT])'))
assert data[0][1] == b'Subject: Re: apple\r\n\r\n' and data[1][1] == b'body 1\r\n', data
assert ok(c.fetch('1', '(RFC822)'))[0][1] == message % (b'pear', 0, 0)
assert b'\\Flagged' in ok(c.store('1', '+FLAGS', r'(\Flagged)'))[0]
assert b'\\Answered' in ok(c.uid('STORE', '1', '+FLAGS', r'(\Answered)'))[0]
ok(c.copy('1:2', 'Work/deep'))
ok(c.uid('COPY', '1', 'Nope'), 'NO')
ok(c.uid('MOVE', '2', 'Work/deep'))
assert c.response('EXPUNGE')[1] == [b'2']
ok(c.store('1', '+FLAGS', r'(\Deleted)'))
assert ok(c.expunge()) == [b'1'], 'expunge'
ok(c.check())
ok(c.getquotaroot('INBOX'))
ok(c.close())
ok(c.select('Work/deep'))
assert ok(c.search(None, 'ALL')) == [b'1 2 3']
ok(c.store('1:*', '+FLAGS', r'(\Deleted)'))
ok(c.unselect())
ok(c.rename('Work/deep', 'Deeper'))
assert ok(c.status('Deeper', '(MESSAGES)')) == [b'Deeper (MESSAGES 3)']
# Another session changes what this one has selected.
ok(c.select('Deeper'))
d = connect()
ok(d.select('Deeper'))
ok(d.expunge())
ok(c.noop())
assert c.response('EXPUNGE')[1] == [b'3', b'2', b'1']
assert ok(c.search(None, 'ALL')) == [b'']
d.logout()
ok(c.unselect())
ok(c.delete('Deeper'))
ok(c.delete('Nope'), 'NO')
# UTF-8 mode: names and texts as they are. APPEND comes before: imaplib puts "UTF8 (" into the message itself.
ok(c.append('INBOX', None, None, 'Subject: Grüße\r\n\r\nx\r\n'.encode()))
ok(c.enable('UTF8=ACCEPT'))
ok(c.create('"Entwürfe"'))
assert ok(c.select('"Entwürfe"')) == [b'0']
ok(c.select('INBOX'))
assert ok(c.search(None, 'SUBJECT "GRÜSSE"')) == [b'']
assert ok(c.search(None, 'SUBJECT "GRÜ"')) == [b'1']
try:
    c.uid('FETCH', '1', '(FROB)')
    raise SystemExit('BAD expected')
except imaplib.IMAP4.error:
    pass
assert c.logout()[0] == 'BYE'
print('all of it')
`;

test('imaplib sees what it should', async () => {
  const file = path.join(cluster.data, 'imaplib-check.py');
  await writeFile(file, script);
  const { imapsPort, user, password, caFile } = cluster.access();
  const done = await run('python3', [file, 'localhost', String(imapsPort), user, password, caFile]);
  expect(done.stdout.toString()).toBe('all of it\n');
}, 60_000);
