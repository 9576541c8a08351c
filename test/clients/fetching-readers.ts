/** Programs that fetch mail into a Maildir, as people run them: offlineimap, getmail and mpop. */
import { mkdir, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { filesOf, inScratch, type MailReader, run } from './mail-readers.ts';

async function maildir(dir: string): Promise<string> {
  for (const name of ['cur', 'new', 'tmp']) await mkdir(path.join(dir, 'mail', name), { recursive: true });
  return path.join(dir, 'mail');
}

async function messagesIn(folder: string): Promise<Buffer[]> {
  return [...(await filesOf(path.join(folder, 'new'))), ...(await filesOf(path.join(folder, 'cur')))];
}

/** offlineimap over IMAPS, one run, everything it finds. */
const offlineimap: MailReader = {
  name: 'offlineimap',
  lines: 'unix',
  read: (access) =>
    inScratch(async (dir) => {
      const file = path.join(dir, 'offlineimaprc');
      await writeFile(
        file,
        [
          '[general]',
          'accounts = edge',
          `metadata = ${dir}/state`,
          '[Account edge]',
          'localrepository = near',
          'remoterepository = far',
          '[Repository near]',
          'type = Maildir',
          `localfolders = ${dir}/mail`,
          '[Repository far]',
          'type = IMAP',
          'ssl = yes',
          `sslcacertfile = ${access.caFile}`,
          `remotehost = ${access.host}`,
          `remoteport = ${access.imapsPort}`,
          `remoteuser = ${access.user}`,
          `remotepass = ${access.password}`,
          "folderfilter = lambda name: name == 'INBOX'",
          'readonly = True',
          '',
        ].join('\n'),
        { mode: 0o600 },
      );
      await run('offlineimap', ['-c', file, '-o', '-u', 'quiet'], { env: { HOME: dir } });
      return await messagesIn(path.join(dir, 'mail/INBOX'));
    }),
};

/** getmail over IMAPS, each message into a file: as root it fills no Maildir. */
const getmail: MailReader = {
  name: 'getmail',
  lines: 'refolded',
  read: (access) =>
    inScratch(async (dir) => {
      const folder = await maildir(dir);
      const deliver = path.join(dir, 'deliver');
      await writeFile(deliver, `#!/bin/sh\ncat > "$(mktemp ${folder}/new/m.XXXXXXXX)"\n`, { mode: 0o700 });
      await writeFile(
        path.join(dir, 'getmailrc'),
        [
          '[retriever]',
          'type = SimpleIMAPSSLRetriever',
          `server = ${access.host}`,
          `port = ${access.imapsPort}`,
          `username = ${access.user}`,
          `password = ${access.password}`,
          `ca_certs = ${access.caFile}`,
          '[destination]',
          'type = MDA_external',
          `path = ${deliver}`,
          'allow_root_commands = true',
          'unixfrom = false',
          '[options]',
          'delete = false',
          'read_all = true',
          'delivered_to = false',
          'received = false',
          '',
        ].join('\n'),
        { mode: 0o600 },
      );
      await run('getmail', ['--getmaildir', dir, '--rcfile', 'getmailrc', '--quiet'], { env: { HOME: dir } });
      return await messagesIn(folder);
    }),
};

/** mpop over POP3 with TLS. */
const mpop: MailReader = {
  name: 'mpop',
  lines: 'unix',
  read: (access) =>
    inScratch(async (dir) => {
      const folder = await maildir(dir);
      await writeFile(
        path.join(dir, 'mpoprc'),
        [
          'account edge',
          `host ${access.host}`,
          `port ${access.pop3sPort}`,
          'tls on',
          'tls_starttls off',
          `tls_trust_file ${access.caFile}`,
          `user ${access.user}`,
          `password ${access.password}`,
          'auth user',
          'keep on',
          'received_header off',
          `delivery maildir ${folder}`,
          `uidls_file ${dir}/uidls`,
          'account default : edge',
          '',
        ].join('\n'),
        { mode: 0o600 },
      );
      await run('mpop', ['--file', path.join(dir, 'mpoprc'), '--quiet'], { env: { HOME: dir } });
      return await messagesIn(folder);
    }),
};

export const fetchingReaders: readonly MailReader[] = [offlineimap, getmail, mpop];
