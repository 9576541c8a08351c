/** What an admin can set about backends. */
import type { SettingsTable, ValuesOf } from '../base/settings.ts';

export const backendSettings = {
  'storage.root': {
    kind: 'path',
    default: '',
    doc: 'Shared storage with all accounts. Empty: "storage" in the data directory.',
  },
  'storage.dirsync': {
    kind: 'flag',
    default: true,
    doc: 'Also fsync the directory after a rename. Leave on unless the file system is known to need it not.',
  },
  'storage.format': {
    kind: 'choice',
    default: 'maildir',
    choices: ['maildir', 'mbox'],
    doc: 'How new folders keep their messages: a file for each, or one for all. Folders that are there keep theirs.',
  },
  'storage.intake': {
    kind: 'flag',
    default: true,
    doc: 'Put messages of up to 256 KiB in a log shared by all accounts of a backend first; their files follow within seconds. Off: each waits for a file of its own.',
  },
  'backend.count': {
    kind: 'count',
    default: 1,
    min: 0,
    max: 256,
    doc: 'Backend members on this machine; one uses one processor core.',
  },
  'backend.weight': {
    kind: 'number',
    default: 1,
    min: 0,
    max: 100,
    doc: 'Share of the shards for each backend of this machine, relative to others: 2 for twice as many, 0 for none. A busy backend gets less for a while.',
  },
  'account.quota': {
    kind: 'size',
    cluster: 'live',
    default: '0B',
    doc: 'Bytes an account may hold unless it has its own quota. 0B: no limit.',
  },
  'account.quota_messages': {
    kind: 'count',
    cluster: 'live',
    default: 0,
    doc: 'Messages an account may hold unless it has its own quota. 0: no limit.',
  },
  'account.message_size_max': {
    kind: 'size',
    cluster: 'live',
    default: '2GiB',
    min: '64KiB',
    doc: 'Largest message that is stored, announced as APPENDLIMIT; smtp.message_size_max holds for mail that comes in.',
  },
  'account.folders_max': {
    kind: 'count',
    cluster: 'live',
    default: 2000,
    min: 10,
    doc: 'Folders an account may have.',
  },
  'account.sessions_max': {
    kind: 'count',
    cluster: 'live',
    default: 100,
    min: 1,
    doc: 'Sessions an account may have at once, all protocols together.',
  },
  'account.keywords_max': {
    kind: 'count',
    cluster: 'live',
    default: 200,
    min: 26,
    doc: 'Keywords a folder may know.',
  },
  'account.open_max': {
    kind: 'count',
    cluster: 'restart',
    default: 10000,
    min: 10,
    doc: 'Accounts kept open without sessions before the least used is closed. The journals of at most 1,000 of them hold a file descriptor each.',
  },
  'login.remember': {
    kind: 'duration',
    cluster: 'restart',
    default: '10m',
    doc: 'How long a password that verified is remembered (as a keyed digest).',
  },
  'login.remembered_max': {
    kind: 'count',
    cluster: 'restart',
    default: 100000,
    min: 0,
    doc: 'Verified passwords remembered at once.',
  },
  'search.index': {
    kind: 'flag',
    cluster: 'live',
    default: true,
    doc: 'Keep an index of the texts of folders that are searched, so that a search need not read them again.',
  },
  'search.index_bytes_max': {
    kind: 'size',
    cluster: 'live',
    default: '1GiB',
    doc: 'Bytes the search index of an account may have; messages beyond are searched without it. 0B: no limit.',
  },
  'imap.idle_timeout': {
    kind: 'duration',
    cluster: 'live',
    default: '30m',
    min: '30m',
    doc: 'A silent IMAP session is closed after this (RFC 9051 5.4 asks for at least 30m).',
  },
  'pop3.login_delay': {
    kind: 'duration',
    cluster: 'live',
    default: '0s',
    max: '1h',
    doc: 'Least time between two POP3 logins of an account (LOGIN-DELAY, RFC 2449). 0s: none.',
  },
  'pop3.idle_timeout': {
    kind: 'duration',
    cluster: 'live',
    default: '10m',
    min: '10m',
    doc: 'A silent POP3 session is closed after this (RFC 1939 3 asks for at least 10m).',
  },
  'imap.commands_per_second': {
    kind: 'count',
    cluster: 'live',
    default: 0,
    min: 0,
    doc: 'A session that sends more IMAP commands than this is slowed down to it. 0: no limit.',
  },
  'imap.command_bytes_max': {
    kind: 'size',
    cluster: 'live',
    default: '256KiB',
    min: '8KiB',
    doc: 'Longest IMAP command, message literals left out.',
  },
} as const satisfies SettingsTable;

export type BackendSettings = ValuesOf<typeof backendSettings>;
