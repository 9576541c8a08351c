/** The commands that change settings, bans and what is read from the file while everything runs. */
import type { Command } from './command.ts';

export const settingsCommands: readonly Command[] = [
  {
    words: ['settings', 'set'],
    summary: 'Set a setting for the whole cluster; it goes before what the file of a machine says.',
    more: 'KEY as in the file: smtp.recipients_max, or plugin.guess-guard.failures_max for an option of a plugin. It is checked as the file is, reaches every member within a second, and says whether it needs a restart.',
    positionals: [
      { name: 'KEY', required: true },
      { name: 'VALUE', required: true },
    ],
    options: {},
    run: async (call) => (await import('./settings.ts')).set(call),
  },
  {
    words: ['settings', 'unset'],
    summary: 'Take a cluster setting away: the file of each machine counts again.',
    positionals: [{ name: 'KEY', required: true }],
    options: {},
    run: async (call) => (await import('./settings.ts')).unset(call),
  },
  {
    words: ['settings', 'show'],
    summary: 'Show what is set for the whole cluster, by whom, and what the file of this machine says.',
    positionals: [],
    options: {},
    run: async (call) => (await import('./settings.ts')).show(call),
  },
  {
    words: ['settings', 'history'],
    summary: 'List changes of settings, bans and domains: number, when, who, what. The newest last.',
    positionals: [],
    options: { count: { type: 'string', value: 'N', doc: 'So many of the newest. Default: 50.' } },
    run: async (call) => (await import('./settings.ts')).history(call),
  },
  {
    words: ['settings', 'revert'],
    summary: 'Take a change back, by its number: what stood there before stands there again.',
    more: 'Changes of bans, domains, drains, pins and moves can be taken back as well. Refused when the same thing was changed again since.',
    positionals: [{ name: 'NUMBER', required: true }],
    options: {},
    run: async (call) => (await import('./settings.ts')).revert(call),
  },
  {
    words: ['ban', 'add'],
    summary: 'Let nobody connect from an address or network, on any port of any gateway.',
    more: 'Judged before TLS, by the true address of the client. IPv4 /8 to /32, IPv6 /32 to /128. Connections that are open go on.',
    positionals: [{ name: 'NETWORK', required: true }],
    options: {
      for: { type: 'string', value: 'DURATION', doc: 'As "1h" or "7d". Default: until it is removed.' },
      why: { type: 'string', value: 'TEXT', doc: 'For the list and the history.' },
    },
    run: async (call) => (await import('./ban.ts')).add(call),
  },
  {
    words: ['ban', 'list'],
    summary: 'List the bans.',
    positionals: [],
    options: {},
    run: async (call) => (await import('./ban.ts')).list(call),
  },
  {
    words: ['ban', 'remove'],
    summary: 'Remove a ban, named as the list names it.',
    positionals: [{ name: 'NETWORK', required: true }],
    options: {},
    run: async (call) => (await import('./ban.ts')).remove(call),
  },
  {
    words: ['reload'],
    summary: 'Read the configuration file and the certificates again, without a restart.',
    more: 'A file with a mistake changes nothing: the old configuration stays, and the mistake is shown. What needs a restart is named. SIGHUP does the same where there is no terminal.',
    positionals: [],
    options: {},
    run: async (call) => (await import('./settings.ts')).reload(call),
  },
];
