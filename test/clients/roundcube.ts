/**
 * Roundcube, the web mailer many sites run, from its Debian package: PHP's own
 * web server on loopback, a database and a configuration in a directory of its
 * own, and the mail of a cluster under test behind it.
 */
import { randomBytes } from 'node:crypto';
import { copyFile, mkdir, readFile, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { freePorts, programPath, startProgram, temporaryDir, waitFor } from '../support/process.ts';
import type { MailAccess } from './mail-readers.ts';

const publicDir = '/var/lib/roundcube/public_html';
const schemaFile = '/usr/share/roundcube/SQL/sqlite.initial.sql';

export interface Roundcube {
  readonly url: string;
  /** What PHP and Roundcube complained about so far. */
  complaints(): Promise<string>;
  stop(): Promise<void>;
}

/** @param access  The cluster's doors; `submissionsPort` takes what is written in Roundcube. */
export async function startRoundcube(
  access: MailAccess & { readonly submissionsPort: number },
): Promise<Roundcube> {
  const dir = await temporaryDir('roundcube');
  const place = (name: string): string => path.join(dir.path, name);
  await Promise.all(['temp', 'logs', 'config'].map((name) => mkdir(place(name))));
  const database = new DatabaseSync(place('roundcube.db'));
  database.exec(await readFile(schemaFile, 'utf8'));
  database.close();
  for (const name of ['defaults.inc.php', 'mimetypes.php'])
    await copyFile(path.join('/etc/roundcube', name), place(`config/${name}`));
  await writeFile(place('config/config.inc.php'), configuration(access, dir.path));
  const [port] = await freePorts(1);
  const program = startProgram(
    programPath('php'),
    ['-d', 'session.save_path=', '-S', `127.0.0.1:${port}`, '-t', publicDir],
    {
      cwd: dir.path,
      env: { ...process.env, ROUNDCUBE_CONFIG_DIR: place('config'), PHP_CLI_SERVER_WORKERS: '4' },
      group: true,
    },
  );
  const url = `http://127.0.0.1:${port}/`;
  const stop = async (): Promise<void> => {
    await program.stop();
    await dir.remove();
  };
  try {
    await waitFor('Roundcube', async () => (await fetch(url)).ok);
  } catch (error) {
    const output = program.output();
    await stop();
    throw new Error(`${(error as Error).message}\n${output}`);
  }
  return {
    url,
    async complaints() {
      const log = await readFile(place('logs/errors.log'), 'utf8').catch(() => '');
      return `${log}${program.output()}`
        .split('\n')
        .filter((line) => /PHP (?:error|warning|fatal|notice|deprecated)|IMAP Error|SMTP Error/i.test(line))
        .join('\n');
    },
    stop,
  };
}

function configuration(access: MailAccess & { readonly submissionsPort: number }, dir: string): string {
  const tls = `['ssl' => ['verify_peer' => true, 'cafile' => ${php(access.caFile)}]]`;
  const settings: Readonly<Record<string, string>> = {
    db_dsnw: php(`sqlite:///${dir}/roundcube.db?mode=0600`),
    imap_host: php(`ssl://localhost:${access.imapsPort}`),
    imap_conn_options: tls,
    smtp_host: php(`ssl://localhost:${access.submissionsPort}`),
    smtp_conn_options: tls,
    smtp_user: php('%u'),
    smtp_pass: php('%p'),
    temp_dir: php(`${dir}/temp`),
    log_dir: php(`${dir}/logs`),
    des_key: php(randomBytes(12).toString('hex')),
    plugins: '[]',
    create_default_folders: 'true',
    drafts_mbox: php('Drafts'),
    sent_mbox: php('Sent'),
    trash_mbox: php('Trash'),
    junk_mbox: php('Junk'),
    language: php('en_US'),
    enable_installer: 'false',
    session_lifetime: '30',
    refresh_interval: '60',
    check_all_folders: 'true',
    imap_cache: 'null',
    prefer_html: 'false',
    htmleditor: '0',
  };
  const lines = Object.entries(settings).map(([name, value]) => `$config['${name}'] = ${value};`);
  return `<?php\n$config = [];\n${lines.join('\n')}\n`;
}

function php(text: string): string {
  return `'${text.replaceAll('\\', '\\\\').replaceAll("'", "\\'")}'`;
}
