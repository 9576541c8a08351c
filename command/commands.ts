/** Every command there is, in the order of the help. */
import type { Command } from './command.ts';
import { settingsCommands } from './settings-commands.ts';

const address = [{ name: 'ADDRESS', required: true }] as const;
const member = [{ name: 'MEMBER', required: true }] as const;
const passwordStdin = {
  'password-stdin': { type: 'boolean', doc: 'Read the password from the first line of standard input.' },
  hash: {
    type: 'string',
    value: 'HASH',
    doc: 'Take a hash another server made, as "{SHA512-CRYPT}$6$…"; "-" reads it from standard input.',
  },
} as const;

export const commands: readonly Command[] = [
  {
    words: ['start'],
    summary: "Run this machine's members in the foreground.",
    more: 'Makes the data directory, certificates, a storage root and a first account when they are missing. Prints a line beginning "ready" when everything answers. Ctrl-C stops in order; a second one at once.',
    positionals: [],
    options: {},
    run: async (call) => (await import('./start.ts')).start(call),
  },
  {
    words: ['check-config'],
    summary: 'Check the configuration, plugins included, without starting anything.',
    positionals: [],
    options: {
      example: { type: 'boolean', doc: 'Print an example file with every setting instead.' },
      reference: { type: 'boolean', doc: 'Print the reference page of all settings instead.' },
    },
    run: async (call) => (await import('./check-config.ts')).checkConfig(call),
  },
  {
    words: ['account', 'add'],
    summary: 'Add an account.',
    more: 'Asks for the password on a terminal; elsewhere, without --password-stdin, makes one and prints it.',
    positionals: address,
    options: {
      ...passwordStdin,
      quota: { type: 'string', value: 'SIZE', doc: 'What it may hold, as "2GiB". Default: account.quota.' },
      adopt: {
        type: 'string',
        value: 'DIR',
        doc: 'Move this Maildir (one that Dovecot wrote, too) into the account: UIDs, flags and keywords are kept.',
      },
    },
    run: async (call) => (await import('./account.ts')).add(call),
  },
  {
    words: ['account', 'list'],
    summary: 'List accounts, of one domain or all.',
    positionals: [{ name: 'DOMAIN', required: false }],
    options: {},
    run: async (call) => (await import('./account.ts')).list(call),
  },
  {
    words: ['account', 'show'],
    summary: 'Show when an account was made and what it holds.',
    positionals: address,
    options: {},
    run: async (call) => (await import('./account.ts')).show(call),
  },
  {
    words: ['account', 'passwd'],
    summary: 'Set the password of an account.',
    more: 'Asks for the password on a terminal; elsewhere, without --password-stdin, makes one and prints it.',
    positionals: address,
    options: passwordStdin,
    run: async (call) => (await import('./account.ts')).passwd(call),
  },
  {
    words: ['account', 'remove'],
    summary: 'End the sessions of an account and move its directory aside, to "removed" in the storage root.',
    positionals: address,
    options: {},
    run: async (call) => (await import('./account.ts')).remove(call),
  },
  {
    words: ['account', 'quota'],
    summary: 'Set what an account may hold; counts at once. Mail that is there stays.',
    positionals: address,
    options: {
      bytes: { type: 'string', value: 'SIZE', doc: 'As "2GiB"; "none"; "default" for account.quota.' },
      messages: {
        type: 'string',
        value: 'COUNT',
        doc: 'As "10000"; "none"; "default" for account.quota_messages.',
      },
    },
    run: async (call) => (await import('./account.ts')).quota(call),
  },
  {
    words: ['account', 'adopt'],
    summary: 'Move a Maildir that stands elsewhere on the storage into an account that has no mail.',
    more: 'One rename: nothing is copied, and it must be on the same file system. UIDs, flags, keywords and subscriptions that Dovecot gave are kept.',
    positionals: [...address, { name: 'DIR', required: true }],
    options: {},
    run: async (call) => (await import('./account-maintenance.ts')).adopt(call),
  },
  {
    words: ['account', 'check'],
    summary:
      'Verify an account: journal, folders, names and sizes of messages, index. Its sessions are ended first.',
    more: 'One line per finding. Exit code 1 while there is damage that was not repaired.',
    positionals: address,
    options: {
      deep: { type: 'boolean', doc: 'Read every message too.' },
      repair: {
        type: 'boolean',
        doc: 'Mend what can be mended; what cannot is moved to "quarantine" in the account, never deleted.',
      },
    },
    run: async (call) => (await import('./account-maintenance.ts')).check(call),
  },
  {
    words: ['account', 'convert'],
    summary:
      'Keep the messages of an account, or of one folder, as Maildir or mbox. Its sessions are ended first.',
    more: 'UIDs, UIDVALIDITY, flags, keywords, dates, sequences, email ids and the unique ids of POP3 stay. A crash leaves each folder in one format, whole.',
    positionals: address,
    options: {
      folder: {
        type: 'string',
        value: 'NAME',
        doc: 'Only this folder, as "Archive/2024"; all of them unless told.',
      },
      to: { type: 'string', value: 'FORMAT', doc: '"maildir" or "mbox".' },
    },
    run: async (call) => (await import('./account-maintenance.ts')).convert(call),
  },
  {
    words: ['account', 'release'],
    summary:
      'Leave an account to Dovecot: write its UID list and keywords, and use it no more until "account resume".',
    positionals: address,
    options: {},
    run: async (call) => (await import('./account-maintenance.ts')).release(call),
  },
  {
    words: ['account', 'resume'],
    summary: 'Use a released account again; what Dovecot did meanwhile is taken over.',
    positionals: address,
    options: {},
    run: async (call) => (await import('./account-maintenance.ts')).resume(call),
  },
  {
    words: ['alias', 'add'],
    summary: 'Let mail to ALIAS go to the account TARGET; once more for each further account.',
    more: 'An alias is a name of its own: nobody logs in with it. It leads to accounts, not to other aliases, and to 50 at most.',
    positionals: [
      { name: 'ALIAS', required: true },
      { name: 'TARGET', required: true },
    ],
    options: {},
    run: async (call) => (await import('./alias.ts')).add(call),
  },
  {
    words: ['alias', 'list'],
    summary: 'List aliases and where they lead, of one domain or all.',
    positionals: [{ name: 'DOMAIN', required: false }],
    options: {},
    run: async (call) => (await import('./alias.ts')).list(call),
  },
  {
    words: ['alias', 'remove'],
    summary: 'Remove an alias, or one of the accounts it leads to.',
    positionals: [
      { name: 'ALIAS', required: true },
      { name: 'TARGET', required: false },
    ],
    options: {},
    run: async (call) => (await import('./alias.ts')).remove(call),
  },
  {
    words: ['domain', 'add'],
    summary: 'Add a domain whose accounts live here.',
    positionals: [{ name: 'DOMAIN', required: true }],
    options: {},
    run: async (call) => (await import('./domain.ts')).add(call),
  },
  {
    words: ['domain', 'remove'],
    summary: 'Remove a domain that has no accounts any more.',
    positionals: [{ name: 'DOMAIN', required: true }],
    options: {},
    run: async (call) => (await import('./domain.ts')).remove(call),
  },
  {
    words: ['domain', 'list'],
    summary: 'List the domains.',
    positionals: [],
    options: {},
    run: async (call) => (await import('./domain.ts')).list(call),
  },
  ...settingsCommands,
  {
    words: ['cert', 'list'],
    summary: "List the certificates of the cluster's own CA on this machine.",
    positionals: [],
    options: {},
    run: async (call) => (await import('./cert.ts')).list(call),
  },
  {
    words: ['cert', 'show'],
    summary: 'Show one certificate: ca, edge, or a member id.',
    positionals: [{ name: 'NAME', required: true }],
    options: {},
    run: async (call) => (await import('./cert.ts')).show(call),
  },
  {
    words: ['cert', 'renew'],
    summary: 'Make a certificate anew, or all but the CA.',
    more: 'Gateways show a new edge certificate within seconds; members use theirs from their next start on. What has under 30 days left is renewed at every start anyway.',
    positionals: [{ name: 'NAME', required: false }],
    options: {},
    run: async (call) => (await import('./cert.ts')).renew(call),
  },
  {
    words: ['cluster', 'status'],
    summary: 'Show members, controller, shards and moves.',
    more: 'For each backend: shards, accounts pinned to it, sessions, and how much longer it may act unless its lease is renewed.',
    positionals: [],
    options: {},
    run: async (call) => (await import('./cluster.ts')).status(call),
  },
  {
    words: ['cluster', 'why'],
    summary:
      'Say who has an account, since when and why, and what would become of it if that backend were gone.',
    positionals: address,
    options: {},
    run: async (call) => (await import('./cluster.ts')).why(call),
  },
  {
    words: ['cluster', 'drain'],
    summary:
      'Give all shards and pinned accounts of a backend to the others; it gets none until "cluster undrain".',
    more: 'The wish stands in the registry: it outlives the controller and restarts of the backend. The last backend that takes shards is not drained.',
    positionals: member,
    options: { wait: { type: 'boolean', doc: 'Return when the backend has nothing left.' } },
    run: async (call) => (await import('./cluster-moves.ts')).drain(call),
  },
  {
    words: ['cluster', 'undrain'],
    summary: 'Let a drained backend have its share of the shards again.',
    positionals: member,
    options: {},
    run: async (call) => (await import('./cluster-moves.ts')).undrain(call),
  },
  {
    words: ['cluster', 'pin'],
    summary: 'Keep an account at a backend, whatever becomes of its shard.',
    more: 'While that backend is drained or gone the account is where its shard is.',
    positionals: [...address, ...member],
    options: {},
    run: async (call) => (await import('./cluster-moves.ts')).pin(call),
  },
  {
    words: ['cluster', 'unpin'],
    summary: 'Let a pinned account be where its shard is.',
    positionals: address,
    options: {},
    run: async (call) => (await import('./cluster-moves.ts')).unpin(call),
  },
  {
    words: ['cluster', 'move'],
    summary: 'Keep a shard at a backend, or give it back to the balance of the controller.',
    more: '"cluster why ADDRESS" says which shard an account is in. Shards are numbered from 0.',
    positionals: [
      { name: 'SHARD', required: true },
      { name: 'MEMBER', required: false },
    ],
    options: { balance: { type: 'boolean', doc: 'In place of MEMBER: the controller places it again.' } },
    run: async (call) => (await import('./cluster-moves.ts')).move(call),
  },
  {
    words: ['cluster', 'safe-to-stop'],
    summary:
      'May the process of a member be ended now without anybody noticing? Exit code 1 and the reason if not.',
    positionals: member,
    options: {},
    run: async (call) => (await import('./cluster-moves.ts')).safeToStop(call),
  },
  {
    words: ['cluster', 'upgrade-check'],
    summary:
      'Can members be replaced by the next version one by one while the others serve? What to do next.',
    more: 'Exit code 1 while something stands in the way.',
    positionals: [],
    options: {},
    run: async (call) => (await import('./cluster.ts')).checkUpgrade(call),
  },
  {
    words: ['cluster', 'history'],
    summary: 'List what admins changed in the cluster: number, when, who, what. The newest last.',
    positionals: [],
    options: {
      count: { type: 'string', value: 'N', doc: 'So many of the newest. Default: 50; 2,000 are kept.' },
    },
    run: async (call) => (await import('./cluster.ts')).history(call),
  },
  {
    words: ['member', 'restart'],
    summary: 'Drain a member of this machine, end its process, start it again and undrain it.',
    more: 'For upgrades: the new process runs the version that is installed now. The next process of a gateway takes over its listening sockets before the present one ends its connections, within gateway.drain: nobody who connects is refused. When it cannot start, the present one goes on.',
    positionals: member,
    options: {},
    run: async (call) => (await import('./cluster-moves.ts')).restart(call),
  },
  {
    words: ['cluster', 'init'],
    summary: 'Make a cluster of several machines; this is its first.',
    more: 'Needs cluster.registry = "etcd". Makes the CA, whose key stays in certs/ca.key of this machine. A single machine with its data directory and storage becomes the first of several this way: stop it first; its accounts, domains and settings go with it.',
    positionals: [],
    options: {},
    run: async (call) => (await import('./cluster-machines.ts')).init(call),
  },
  {
    words: ['cluster', 'token'],
    summary: 'Make a token with which one machine may join.',
    more: 'On a machine that has the key of the CA. The token names the cluster and pins its CA; it is a secret until it was used or has expired.',
    positionals: [],
    options: {
      expires: { type: 'string', value: 'TIME', doc: 'How long it is good: 1s to 7d. Default: 1h.' },
    },
    run: async (call) => (await import('./cluster-machines.ts')).token(call),
  },
  {
    words: ['cluster', 'join'],
    summary: 'Have this machine join a cluster.',
    more: 'TOKEN is what "postern cluster token" printed; "-" reads it from standard input. The keys are made here and never leave this machine.',
    positionals: [{ name: 'TOKEN', required: true }],
    options: {},
    run: async (call) => (await import('./cluster-machines.ts')).join(call),
  },
  {
    words: ['cluster', 'leave'],
    summary: 'Take this machine, or another, out of the cluster.',
    more: 'Its certificate is refused at once by every other machine. One that still runs is refused too, unless --force; take away what it needs for etcd as well when it fell into wrong hands.',
    positionals: [{ name: 'MACHINE', required: false }],
    options: { force: { type: 'boolean', doc: 'Also when it still runs, or alone has the key of the CA.' } },
    run: async (call) => (await import('./cluster-machines.ts')).leave(call),
  },
  {
    words: ['cluster', 'machines'],
    summary: 'List the machines of the cluster and what they run.',
    positionals: [],
    options: {},
    run: async (call) => (await import('./cluster-machines.ts')).machines(call),
  },
];
