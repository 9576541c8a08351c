/**
 * What goes wrong in a round, by the rows of the project's list of cases for
 * clusters (100 to 115). Each does its fault, takes it back, and says what it did.
 */
import { execFile } from 'node:child_process';
import { readFile, writeFile } from 'node:fs/promises';
import { setTimeout as sleep } from 'node:timers/promises';
import { promisify } from 'node:util';
import type { RandomSource } from '../support/random.ts';
import { type Rig, registryHosts } from './rig.ts';

const run = promisify(execFile);
/** `cluster.lease`, as it is unless an admin sets it. */
const leaseMs = 3000;
const hoursSeconds = 2 * 3600;

export interface Stage {
  readonly rig: Rig;
  readonly random: RandomSource;
  /** Source of another release; the same one is started again where there is none. */
  readonly previous: string | undefined;
}

/** Returns what was done; throws when something was let in, taken or refused that should not be. */
type Row = (stage: Stage) => Promise<string>;

const pick = <T>(random: RandomSource, from: readonly T[]): T => from[random.between(0, from.length - 1)]!;

async function pauseBackend({ rig, random }: Stage, fromMs: number, toMs: number): Promise<string> {
  const name = pick(random, rig.backends);
  const ms = random.between(fromMs, toMs);
  const pid = (await rig.machine(name).memberPids())[`${name}-backend-1`];
  if (pid === undefined) throw new Error(`${name} has no backend`);
  process.kill(pid, 'SIGSTOP');
  await sleep(ms);
  process.kill(pid, 'SIGCONT');
  return `${name} paused for ${ms} ms`;
}

async function cutBackend({ rig, random }: Stage, others: readonly string[]): Promise<string> {
  const name = pick(random, rig.backends);
  const ms = random.between(leaseMs + 500, leaseMs + 3500);
  await rig.network.cut(name, others, 'both');
  await sleep(ms);
  await rig.network.heal();
  return `${name} cut from ${others.join(', ')} for ${ms} ms`;
}

async function restart({ rig, random, previous }: Stage, how: 'term' | 'twice' | 'kill'): Promise<string> {
  const name = pick(random, [...rig.backends, ...rig.gateways]);
  const machine = rig.machine(name);
  if (how === 'kill') await machine.killEverything();
  else {
    const pid = machine.supervisorPid;
    process.kill(pid, 'SIGTERM');
    if (how === 'twice') {
      await sleep(random.between(50, 800));
      // It may have been quick.
      if (machine.isRunning) process.kill(pid, 'SIGTERM');
    }
    await machine.stop();
  }
  const own = machine.project;
  if (previous !== undefined && how === 'term') machine.project = random.between(0, 1) === 0 ? previous : own;
  const release = machine.project === own ? '' : ', with the other release';
  await machine.start(120_000);
  machine.project = own;
  return `${name} ended (${how}) and started again${release}`;
}

async function registryTrouble({ rig, random }: Stage): Promise<string> {
  const { registry, network } = rig;
  const leader = (await registry.leader()) ?? 'e1';
  const ms = random.between(1500, 6000);
  switch (pick(random, ['kill', 'isolate', 'quorum', 'space'] as const)) {
    case 'kill':
      await registry.kill(leader);
      await sleep(ms);
      registry.start(leader);
      return `${leader}, which led, killed for ${ms} ms`;
    case 'isolate': {
      const others = [...registryHosts, ...rig.backends, ...rig.gateways].filter((name) => name !== leader);
      await network.cut(leader, others, 'both');
      await sleep(ms);
      await network.heal();
      return `${leader}, which led, cut off for ${ms} ms`;
    }
    case 'quorum': {
      const two = registryHosts.filter((name) => name !== pick(random, registryHosts)).slice(0, 2);
      for (const name of two) registry.signal(name, 'SIGSTOP');
      await sleep(ms);
      for (const name of two) registry.signal(name, 'SIGCONT');
      return `${two.join(' and ')} stood still for ${ms} ms`;
    }
    case 'space':
      await registry.fill();
      await sleep(1000);
      await registry.empty();
      return 'the registry had no space';
  }
}

export const rows: Readonly<Record<number, Row>> = {
  100: (stage) => pauseBackend(stage, leaseMs + 500, leaseMs + 3000),
  101: (stage) => pauseBackend(stage, 500, leaseMs - 200),
  async 102({ rig, random }) {
    for (const offset of [hoursSeconds, -hoursSeconds, 0]) {
      await rig.setClock(offset);
      await sleep(random.between(1100, 1800));
    }
    return `the calendar of ${rig.backends.at(-1)} two hours on, two hours back, and right again`;
  },
  103: (stage) => cutBackend(stage, registryHosts),
  104: (stage) => cutBackend(stage, ['s1']),
  async 105({ rig, random }) {
    const name = pick(random, [...rig.backends, ...rig.gateways]);
    const ms = random.between(2500, 5500);
    if (random.between(0, 2) === 0) {
      await rig.network.lose(name, 30);
      await sleep(ms);
      await rig.network.heal();
      return `${name} lost 30 of 100 packets for ${ms} ms`;
    }
    const peers = [registryHosts, rig.backends, rig.gateways, ['s1']]
      .map((group) => group.filter((other) => other !== name))
      .filter((group) => group.length > 0);
    const others = pick(random, peers);
    const direction = pick(random, ['in', 'out'] as const);
    await rig.network.cut(name, others, direction);
    await sleep(ms);
    await rig.network.heal();
    return `${name} cut from ${others.join(', ')}, ${direction} only, for ${ms} ms`;
  },
  async 106({ rig, random }) {
    const name = pick(random, rig.backends);
    const pid = (await rig.machine(name).memberPids())[`${name}-backend-1`]!;
    // Its writes are under way when it is cut off; it stands still until others have its accounts.
    await rig.network.cut(name, ['s1'], 'both');
    await sleep(random.between(50, 400));
    process.kill(pid, 'SIGSTOP');
    await sleep(random.between(leaseMs + 1000, leaseMs + 2000));
    process.kill(pid, 'SIGCONT');
    await sleep(random.between(0, 300));
    await rig.network.heal();
    return `${name} cut from the storage, paused, and healed after the takeover`;
  },
  107: registryTrouble,
  async 108({ rig, random }) {
    const name = pick(random, [...rig.backends, ...rig.gateways]);
    await rig.network.cut(name, registryHosts, 'in');
    await rig
      .machine('m1')
      .command([
        'cluster',
        'move',
        String(random.between(0, 4095)),
        `${pick(random, rig.backends)}-backend-1`,
      ])
      .catch(() => {});
    await sleep(random.between(300, 1500));
    await rig.registry.compact();
    await rig.network.heal();
    return `compacted while ${name} heard nothing`;
  },
  async 109({ rig, random }) {
    const done: string[] = [];
    for (let time = random.between(1, 2); time > 0; time--) {
      const id = await rig.registry.get('controller');
      const name = id.split('-')[0] ?? '';
      if (!rig.backends.includes(name)) continue;
      const moving = rig
        .machine(pick(random, rig.backends))
        .command([
          'cluster',
          'move',
          String(random.between(0, 4095)),
          `${pick(random, rig.backends)}-backend-1`,
        ])
        .catch(() => '');
      await sleep(random.between(0, 600));
      await rig
        .machine(name)
        .kill(id, 'SIGKILL')
        .catch(() => {});
      done.push(id);
      await moving;
      await sleep(random.between(100, 1500));
    }
    return `the controller killed: ${done.join(', then ')}`;
  },
  async 110({ rig, random }) {
    const machine = rig.machine(pick(random, rig.backends));
    const [command, ...before] = rig.network.host('cl').exec;
    const connect = [
      's_client',
      '-connect',
      `${machine.host}:${machine.ports.link}`,
      '-alpn',
      'h2',
      '-ign_eof',
    ];
    const heard = await run(command!, [...before, 'timeout', '5', 'openssl', ...connect]).then(
      ({ stdout, stderr }) => ({ code: 0, text: stdout + stderr }),
      (error: { code: number; stdout: string; stderr: string }) => ({
        code: error.code,
        text: error.stdout + error.stderr,
      }),
    );
    // 124: `timeout` had to end it, so the other side had not hung up.
    if (heard.code === 0 || heard.code === 124)
      throw new Error(`a stranger without a certificate was let in: ${heard.text.slice(-300)}`);
    return `${machine.name} refused a link without a certificate`;
  },
  async 111({ rig, random }) {
    const at = rig.machine(pick(random, rig.backends));
    const to = `${pick(random, rig.backends)}-backend-1`;
    const address = pick(random, rig.accounts);
    const tell = (...words: string[]): Promise<string> => at.command(['cluster', ...words]);
    switch (pick(random, ['pin', 'drain'] as const)) {
      case 'pin':
        await tell('pin', address, to);
        await sleep(random.between(500, 2500));
        await tell('unpin', address);
        return `${address} pinned to ${to} and back`;
      case 'drain':
        await tell('drain', to);
        await sleep(random.between(500, 2500));
        await tell('undrain', to);
        return `${to} drained and filled again`;
    }
  },
  112: (stage) => restart(stage, 'term'),
  113: (stage) => restart(stage, pick(stage.random, ['term', 'twice'] as const)),
  async 114(stage) {
    const { rig, random } = stage;
    if (random.between(0, 2) === 0) return restart(stage, 'kill');
    const machine = rig.machine(pick(random, [...rig.backends, ...rig.gateways]));
    const [member] = Object.keys(await machine.memberPids());
    await machine.kill(member!, 'SIGKILL');
    return `${member} killed`;
  },
  async 115({ rig, random }) {
    const machine = rig.machine(pick(random, [...rig.backends, ...rig.gateways]));
    const good = await readFile(machine.config, 'utf8');
    try {
      await writeFile(machine.config, `${good}imap.commands_per_second = "many"\n`);
      const told = await machine.command(['reload']).catch((error: Error) => error.message);
      if (!/\.toml:\d+ .*commands_per_second/.test(told))
        throw new Error(`a bad configuration was not pointed at: ${told.slice(0, 300)}`);
    } finally {
      await writeFile(machine.config, good);
    }
    await machine.command(['reload']);
    return `${machine.name} kept its configuration when it was given a bad one`;
  },
};
