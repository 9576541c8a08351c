/**
 * Members of an earlier version beside today's (CASES 112): `npm run rolling`, or
 * `npm run rolling -- --previous REF`. Two machines on one etcd run the earlier version; one after the
 * other is stopped and started with today's, then with the earlier one again, and
 * at no time does an account stop being served or lose mail.
 */
import { spawnSync } from 'node:child_process';
import { symlinkSync } from 'node:fs';
import path from 'node:path';
import { parseArgs } from 'node:util';
import { canLogIn, type TestAccount } from '../support/cluster.ts';
import { startEtcd } from '../support/etcd.ts';
import { type Machine, type MachineCluster, startMachines } from '../support/machines.ts';
import { temporaryDir, waitFor } from '../support/process.ts';

const project = path.resolve(import.meta.dirname, '../..');
const accountCount = 8;

const { values } = parseArgs({ options: { previous: { type: 'string', default: 'HEAD~1' } } });
const previous = values.previous;

function git(...words: string[]): string {
  const { status, stdout, stderr } = spawnSync('git', words, { cwd: project, encoding: 'utf8' });
  if (status !== 0) throw new Error(`git ${words.join(' ')}: ${stderr}`);
  return stdout.trim();
}

function say(line: string): void {
  process.stdout.write(`${new Date().toISOString().slice(11, 19)}  ${line}\n`);
}

/** Every account, at the gateway of every machine that runs. */
async function allServed(machines: readonly Machine[], accounts: readonly TestAccount[]): Promise<void> {
  for (const machine of machines)
    for (const account of accounts)
      await waitFor(
        `${account.address} at ${machine.name}`,
        () => canLogIn(machine.ports.imaps, account, machine.host),
        30_000,
      );
}

async function restartWith(
  cluster: MachineCluster,
  machine: Machine,
  source: string,
  words: string,
): Promise<void> {
  say(`${machine.name} stops, to run ${words}`);
  await machine.stop();
  const others = cluster.machines.filter((one) => one !== machine);
  await allServed(others, accounts);
  machine.project = source;
  await machine.start();
  await allServed(cluster.machines, accounts);
  const status = JSON.parse(await machine.command(['cluster', 'status', '--json'])) as {
    freeShards: number;
    members: { registered: boolean }[];
  };
  if (status.freeShards !== 0 || !status.members.every(({ registered }) => registered))
    throw new Error(`after ${machine.name}: ${JSON.stringify(status)}`);
  say(`${machine.name} runs ${words}; all accounts are served at all machines`);
}

const dir = await temporaryDir('rolling');
const before = path.join(dir.path, 'previous');
let accounts: TestAccount[] = [];
let failed = false;
const etcd = await startEtcd();
let cluster: MachineCluster | undefined;
try {
  git('worktree', 'add', '--detach', '--quiet', before, previous);
  symlinkSync(path.join(project, 'node_modules'), path.join(before, 'node_modules'));
  say(`earlier: ${git('log', '-1', '--format=%h %s', previous)}`);
  say(`today:   ${git('log', '-1', '--format=%h %s', 'HEAD')} and what is not committed`);
  cluster = await startMachines({
    endpoints: etcd.hosts,
    // The earlier version has no compiled modules yet.
    readyMs: 120_000,
    config: 'cluster.lease = "10s"\n',
    machines: [
      { name: 'm1', host: '127.0.0.2', project: before },
      { name: 'm2', host: '127.0.0.3', project: before },
    ],
  });
  for (let number = 0; number < accountCount; number++)
    accounts.push(await cluster.addAccount(`rolling${number}@postern.test`));
  accounts = [cluster.account, ...accounts];
  await allServed(cluster.machines, accounts);
  for (const machine of cluster.machines) await restartWith(cluster, machine, project, "today's");
  for (const machine of cluster.machines) await restartWith(cluster, machine, before, 'the earlier version');
  say('passed');
} catch (error) {
  failed = true;
  say(`FAILED: ${error instanceof Error ? error.message : error}`);
} finally {
  await cluster?.stop();
  await etcd.stop();
  spawnSync('git', ['worktree', 'remove', '--force', before], { cwd: project });
  await dir.remove();
}
process.exit(failed ? 1 : 0);
