/**
 * Haraka's home: the directory it reads its configuration from. Haraka crashes
 * on the first connection without a complete connection.ini, so all it reads is
 * written here at start-up. What stands beside these files (a plugin's own
 * `.ini`, a `plugins/` folder) is the admin's and is left alone.
 */
import { mkdirSync, readFileSync, renameSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { Fault } from '../../../base/fault.ts';
import { spoolMemoryBytesMax } from '../spool.ts';

export interface HarakaHomeFacts {
  readonly hostname: string;
  readonly messageBytesMax: number;
  readonly headerLinesMax: number;
  readonly receivedMax: number;
  readonly lineBytesMax: number;
}

/**
 * Writes what differs; called before Haraka is loaded, when waiting on the file system harms nobody.
 * @throws {Fault} `cannot-write`
 */
export function writeHarakaHome(home: string, facts: HarakaHomeFacts): void {
  const config = path.join(home, 'config');
  try {
    mkdirSync(path.join(home, 'spool'), { recursive: true, mode: 0o700 });
    mkdirSync(config, { recursive: true, mode: 0o700 });
    for (const [name, text] of Object.entries(harakaFiles(home, facts))) {
      writeIfOther(path.join(config, name), text);
    }
  } catch (error) {
    throw new Fault('cannot-write', `${home}: cannot be written; make the data directory writable`, {
      cause: error,
    });
  }
}

/**
 * Every limit here is wider than ours: the session judges commands and messages before Haraka sees them, and
 * Haraka's own answers to a limit (lines rewritten, header lines dropped) must never be reached.
 */
function harakaFiles(home: string, facts: HarakaHomeFacts): Record<string, string> {
  const wide = 2 * facts.messageBytesMax + 1024 * 1024;
  return {
    me: `${facts.hostname}\n`,
    loglevel: 'WARN\n',
    'log.ini': '[main]\nlevel=warn\ntimestamps=false\nformat=DEFAULT\n',
    'smtp.ini': '[main]\nnodes=0\ndaemonize=false\ngraceful_shutdown=false\n[headers]\nadd_received=false\n',
    'http.ini': '[main]\n',
    // a missing file is looked for again at every connection and transaction
    'results.ini': '[main]\n',
    'outbound.ini': '[main]\ndisabled=true\n',
    'connection.ini': [
      '[main]',
      `spool_dir=${path.join(home, 'spool')}`,
      `spool_after=${spoolMemoryBytesMax}`,
      'strict_rfc1869=false',
      // senders with local parts over 64 bytes exist
      'postel=true',
      'smtputf8=false',
      '[haproxy]',
      'enabled=false',
      'hosts[] =',
      '[headers]',
      'add_received=false',
      'clean_auth_results=false',
      'show_version=false',
      `max_lines=${facts.headerLinesMax + 1}`,
      `max_received=${facts.receivedMax + 1}`,
      '[max]',
      `bytes=${wide}`,
      'mime_parts=1000',
      'line_length=16384',
      `data_line_length=${Math.max(facts.lineBytesMax + 1024, 16_384)}`,
      '[message]',
      'helo=ready',
      'close=closing',
      '[uuid]',
      'banner_chars=0',
      'deny_chars=0',
      '',
    ].join('\n'),
  };
}

/** By rename: several gateways of a machine share the home and start at once. */
function writeIfOther(file: string, text: string): void {
  try {
    if (readFileSync(file, 'utf8') === text) return;
  } catch {
    // not there yet
  }
  const fresh = `${file}.${process.pid}`;
  writeFileSync(fresh, text, { mode: 0o600 });
  renameSync(fresh, file);
}
