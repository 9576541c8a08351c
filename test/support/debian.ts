/**
 * The programs of other people that tests run against, as Debian packages. As
 * root on Debian the missing ones are installed; elsewhere the one line that does
 * it is printed, and the suites that need them fail: they are not skipped.
 */
import { spawnSync } from 'node:child_process';
import { existsSync, rmSync, writeFileSync } from 'node:fs';
import path from 'node:path';

/** Package → a program it brings, by its name or where it lies outside PATH. */
const needed: Readonly<Record<string, string>> = {
  'clamav-daemon': 'clamd',
  spamassassin: 'spamassassin',
  spamd: 'spamd',
  spamc: 'spamc',
  swaks: 'swaks',
  isync: 'mbsync',
  fetchmail: 'fetchmail',
  mutt: 'mutt',
  mpop: 'mpop',
  msmtp: 'msmtp',
  curl: 'curl',
  xfsprogs: 'xfs_io',
  offlineimap3: 'offlineimap',
  getmail6: 'getmail',
  python3: 'python3',
  procps: 'ps',
  iproute2: 'ip',
  'dovecot-imapd': '/usr/lib/dovecot/imap',
  openssl: 'openssl',
  'etcd-server': 'etcd',
  'etcd-client': 'etcdctl',
  nftables: 'nft',
  'glusterfs-common': 'glusterfsd',
  'glusterfs-client': 'glusterfs',
  faketime: 'faketime',
  'roundcube-core': '/var/lib/roundcube/index.php',
  'roundcube-sqlite3': '/usr/share/doc/roundcube-sqlite3',
  'php-cli': 'php',
  procmail: 'procmail',
  chromium: 'chromium',
  'dnsmasq-base': 'dnsmasq',
  rspamd: 'rspamd',
  pebble: 'pebble',
};

/** swaks speaks TLS with this; it has no program of its own. */
const modules: Readonly<Record<string, string>> = { 'libnet-ssleay-perl': 'Net/SSLeay.pm' };

export const aptLine = `apt-get install -y --no-install-recommends ${[...Object.keys(needed), ...Object.keys(modules)].join(' ')}`;

export function missingPackages(): string[] {
  const has = (program: string): boolean =>
    [...(process.env.PATH ?? '').split(':'), '/usr/sbin', '/sbin', '/usr/bin', '/bin'].some(
      (place) => place !== '' && existsSync(path.resolve(place, program)),
    );
  const programs = Object.entries(needed).filter(([, program]) => !has(program));
  const perl = Object.entries(modules).filter(
    ([, module]) =>
      spawnSync('perl', ['-e', `exit(!grep { -e "$_/${module}" } @INC)`], { stdio: 'ignore' }).status !== 0,
  );
  return [...programs, ...perl].map(([name]) => name);
}

/** Services that a package would start are kept from it: tests start their own, on ports of their own. */
const policyFile = '/usr/sbin/policy-rc.d';

/**
 * Installs what is missing, once.
 * @returns What is still missing.
 */
export function ensurePackages(say: (line: string) => void): string[] {
  const missing = missingPackages();
  if (missing.length === 0) return [];
  const line = `apt-get update && apt-get install -y --no-install-recommends ${missing.join(' ')}`;
  if (!existsSync('/etc/debian_version') || process.getuid?.() !== 0) {
    say(`missing for some suites, which will fail: ${missing.join(' ')}; as root on Debian: ${line}`);
    return missing;
  }
  say(`installing Debian packages: ${missing.join(' ')}`);
  const hadPolicy = existsSync(policyFile);
  if (!hadPolicy) writeFileSync(policyFile, '#!/bin/sh\nexit 101\n', { mode: 0o755 });
  try {
    const env = { ...process.env, DEBIAN_FRONTEND: 'noninteractive' };
    const apt = (args: readonly string[]): boolean =>
      spawnSync('apt-get', ['-qq', '-o', 'DPkg::Lock::Timeout=120', ...args], {
        stdio: ['ignore', 2, 2],
        env,
      }).status === 0;
    apt(['update']);
    const install = ['install', '-y', '--no-install-recommends'];
    // spamd is a package of its own since Debian 12.2; before, spamassassin brought it. One by one if together fails.
    if (!apt([...install, ...missing])) for (const name of missing) apt([...install, name]);
  } finally {
    if (!hadPolicy) rmSync(policyFile, { force: true });
  }
  const still = missingPackages();
  if (still.length > 0) say(`still missing: ${still.join(' ')}; try as root: ${line}`);
  return still;
}

/** For suites: @throws {Error} with the one line to run, when one of `packages` is not installed. */
export async function requireDebianPackages(packages: readonly string[]): Promise<void> {
  const missing = packages.filter((name) =>
    needed[name] === undefined ? !isInstalled(name) : missingPackages().includes(name),
  );
  if (missing.length === 0) return;
  throw new Error(
    `needs Debian packages; as root: apt-get install -y --no-install-recommends ${missing.join(' ')}`,
  );
}

function isInstalled(name: string): boolean {
  const query = spawnSync('dpkg-query', ['-s', name], { encoding: 'utf8' });
  return query.stdout?.includes('Status: install ok installed') ?? false;
}

if (process.argv[1] === import.meta.filename) {
  ensurePackages((line) => process.stderr.write(`test: ${line}\n`));
}
