/** Roundcube in a real browser: log in, read, flag, move, search, answer, throw away. */
import { afterAll, beforeAll, expect, test } from '@jest/globals';
import { ImapFlow } from 'imapflow';
import { type Browser, type BrowserContext, chromium, type Page } from 'playwright-core';
import { type Cluster, startCluster } from '../support/cluster.ts';
import { programPath, waitFor } from '../support/process.ts';
import { type Roundcube, startRoundcube } from './roundcube.ts';

const subjects = ['Minutes of May', 'Räksmörgås on Friday', 'Re: Minutes of May'];

let cluster: Cluster;
let roundcube: Roundcube;
let browser: Browser;
let context: BrowserContext;
let page: Page;

beforeAll(async () => {
  cluster = await startCluster({});
  roundcube = await startRoundcube({ ...cluster.access(), submissionsPort: cluster.ports.submissions });
  await withImap(async (client) => {
    for (const [index, subject] of subjects.entries()) await client.append('INBOX', letter(subject, index));
  });
  browser = await chromium.launch({
    executablePath: programPath('chromium'),
    args: [
      '--no-sandbox',
      '--disable-gpu',
      '--disable-quic',
      '--disable-background-networking',
      '--no-first-run',
    ],
  });
  context = await browser.newContext({ viewport: { width: 1280, height: 900 } });
  page = await context.newPage();
  page.setDefaultTimeout(15_000);
}, 180_000);

afterAll(async () => {
  await browser?.close();
  await roundcube?.stop();
  await cluster?.stop();
});

const letter = (subject: string, index: number): string =>
  [
    'From: Ann Example <ann@example.org>',
    `To: ${cluster.account.address}`,
    `Subject: =?UTF-8?B?${Buffer.from(subject).toString('base64')}?=`,
    `Date: Tue, ${index + 1} Sep 2026 10:00:00 +0200`,
    `Message-ID: <letter-${index}@example.org>`,
    'MIME-Version: 1.0',
    'Content-Type: text/plain; charset=utf-8',
    'Content-Transfer-Encoding: base64',
    '',
    Buffer.from(`The body of letter ${index}: smörgåsbord.\r\n`).toString('base64'),
    '',
  ].join('\r\n');

/** A second pair of eyes: what Roundcube did, seen over IMAP. */
async function withImap<T>(work: (client: ImapFlow) => Promise<T>): Promise<T> {
  const { imapsPort, user, password } = cluster.access();
  const client = new ImapFlow({
    host: '127.0.0.1',
    port: imapsPort,
    secure: true,
    tls: { rejectUnauthorized: false },
    auth: { user, pass: password },
    logger: false,
  });
  await client.connect();
  try {
    return await work(client);
  } finally {
    await client.logout();
  }
}

async function subjectsOf(folder: string): Promise<string[]> {
  return withImap(async (client) => {
    const found: string[] = [];
    const { exists } = await client.mailboxOpen(folder);
    if (exists === 0) return found;
    for await (const message of client.fetch('1:*', { envelope: true }))
      found.push(message.envelope?.subject ?? '');
    return found.sort();
  });
}

const row = (subject: string) =>
  page.locator('#messagelist tbody tr', {
    has: page.locator('.subject', { hasText: new RegExp(`^\\s*(?:Unread |Message )?\\s*${subject}\\s*$`) }),
  });

/** Waits until Roundcube has nothing under way any more. */
async function settled(): Promise<void> {
  await page.waitForFunction('window.rcmail && !window.rcmail.busy');
}

async function openInbox(): Promise<void> {
  await page.goto(`${roundcube.url}?_task=mail&_mbox=INBOX`);
  await page.locator('#messagelist').waitFor();
  await settled();
}

test('a wrong password is refused', async () => {
  await page.goto(roundcube.url);
  await page.fill('#rcmloginuser', cluster.account.address);
  await page.fill('#rcmloginpwd', 'not it');
  await page.click('#rcmloginsubmit');
  await page.locator('text=Login failed').first().waitFor();
});

test('the right one shows the inbox, newest first', async () => {
  await page.fill('#rcmloginuser', cluster.account.address);
  await page.fill('#rcmloginpwd', cluster.account.password);
  await page.click('#rcmloginsubmit');
  await page.locator('#messagelist tbody tr').first().waitFor();
  await page.waitForFunction(
    `document.querySelectorAll('#messagelist tbody tr').length === ${subjects.length}`,
  );
  const shown = await page.locator('#messagelist tbody tr .subject a').allTextContents();
  expect(shown.map((text) => text.trim()).toSorted()).toEqual([...subjects].sort());
});

test('its folders were made', async () => {
  await waitFor('the folders', async () =>
    withImap(async (client) => {
      const paths = (await client.list()).map((folder) => folder.path);
      return ['Drafts', 'Sent', 'Trash', 'Junk'].every((name) => paths.includes(name));
    }),
  );
});

test('a message is read, and seen afterwards', async () => {
  await page.goto(`${roundcube.url}?_task=mail&_mbox=INBOX&_action=show&_uid=2`);
  await page.locator('#messagebody', { hasText: 'The body of letter 1: smörgåsbord.' }).waitFor();
  await waitFor('the flag', () =>
    withImap(async (client) => {
      await client.mailboxOpen('INBOX');
      return (await client.search({ seen: true }, { uid: true }))?.toString() === '2';
    }),
  );
});

test('a message is flagged', async () => {
  await openInbox();
  await row('Minutes of May').locator('td.subject').click();
  await page.waitForFunction('rcmail.message_list.get_selection().length === 1');
  await page.evaluate("rcmail.command('mark', 'flagged')");
  await settled();
  await waitFor('the flag', () =>
    withImap(async (client) => {
      await client.mailboxOpen('INBOX');
      return (await client.search({ flagged: true }, { uid: true }))?.toString() === '1';
    }),
  );
});

test('a search finds what a body holds', async () => {
  await openInbox();
  await page.evaluate("rcmail.env.search_mods = { '*': { text: 1 } }");
  await page.evaluate("document.querySelector('#mailsearchform').value = 'of letter 2'");
  await page.evaluate("rcmail.command('search')");
  await page.waitForFunction("document.querySelectorAll('#messagelist tbody tr').length === 1");
  await row('Re: Minutes of May').waitFor();
});

test('a message is moved to another folder', async () => {
  await openInbox();
  await row('Re: Minutes of May').locator('td.subject').click();
  await page.waitForFunction('rcmail.message_list.get_selection().length === 1');
  await page.evaluate("rcmail.command('move', 'Junk')");
  await waitFor('the move', async () => (await subjectsOf('Junk')).includes('Re: Minutes of May'));
  expect(await subjectsOf('INBOX')).toEqual(['Minutes of May', 'Räksmörgås on Friday']);
});

test('a message is thrown away', async () => {
  await openInbox();
  await row('Räksmörgås on Friday').locator('td.subject').click();
  await page.waitForFunction('rcmail.message_list.get_selection().length === 1');
  await page.evaluate("rcmail.command('delete')");
  await waitFor('the trash', async () => (await subjectsOf('Trash')).includes('Räksmörgås on Friday'));
  expect(await subjectsOf('INBOX')).toEqual(['Minutes of May']);
});

test('a message that is written arrives, and a copy is in Sent', async () => {
  await page.goto(`${roundcube.url}?_task=mail&_action=compose`);
  await page.locator('#composebody').waitFor();
  await page.evaluate(`document.querySelector('#_to').value = '${cluster.account.address}'`);
  await page.fill('#compose-subject', 'Written in a browser');
  await page.fill('#composebody', 'Grüße.');
  await page.evaluate("rcmail.command('send', {})");
  await waitFor('the copy', async () => (await subjectsOf('Sent')).includes('Written in a browser'));
  await waitFor('the message', async () => (await subjectsOf('INBOX')).includes('Written in a browser'));
});

test('neither Roundcube nor PHP complained', async () => {
  const complaints = (await roundcube.complaints())
    .split('\n')
    .filter((line) => line !== '' && !/Login failed|AUTHENTICATIONFAILED/i.test(line));
  expect(complaints).toEqual([]);
});
