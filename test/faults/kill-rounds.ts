/**
 * Kills members while mail is delivered, and holds the store against what was
 * acknowledged: each message that got its 250 is there exactly once for each of
 * its recipients, and a dead member is back within the time that was promised.
 */
import { createHash } from 'node:crypto';
import { pythonImaplib } from '../clients/mail-readers.ts';
import type { Cluster, TestAccount } from '../support/cluster.ts';
import { type Outgoing, sendAll, withoutAddedHeaders } from '../support/mail-sender.ts';
import { type RandomSource, randomSource } from '../support/random.ts';

/** `members`: all of them at once; `machine`: the supervisor too, and it is started again. */
export const victims = ['backend', 'gateway', 'members', 'machine'] as const;
export type Victim = (typeof victims)[number];
/** Of six kills one takes all members and one the machine. */
const lots: readonly Victim[] = ['backend', 'gateway', 'backend', 'gateway', 'members', 'machine'];

/**
 * - `any`: at a random moment.
 * - `in-data`: when a sender has sent half of its message.
 * - `twice`: at a random moment, and the new process again as soon as it is there.
 */
export const moments = ['any', 'in-data', 'twice'] as const;
export type Moment = (typeof moments)[number];

/** The supervisor's promise: from the kill to a member that serves, a backend with its accounts. */
export const readyMsPromised = 2000;

interface Times {
  readonly count: number;
  readonly median: number;
  readonly max: number;
}

export interface KillReport {
  readonly rounds: number;
  readonly killed: Readonly<Record<Victim, number>>;
  readonly moments: Readonly<Record<Moment, number>>;
  /** Messages that got their 250, and the copies they had to have: one for each recipient. */
  readonly acknowledged: number;
  readonly copies: number;
  readonly missing: number;
  readonly doubled: number;
  /** Stored though nobody sent it: must stay 0. */
  readonly strange: number;
  /** From the last kill to `ready` of the last member that was killed, ms. Machines are not among these. */
  readonly memberReadyMs: Times;
  /** Rounds in which that took longer than promised. */
  readonly late: number;
  /** From the kill of everything to the `ready` line of a new `postern start`, ms. */
  readonly machineReadyMs: Times;
  /** From the last kill until a stranger was greeted and a user had logged in anew, ms. */
  readonly answeringMs: Times;
  readonly setbacks: Readonly<Record<string, number>>;
  readonly seed: number;
}

/**
 * @param cluster  A running cluster with an account; it is used up by this.
 * @param options.rounds  How many kills.
 * @param options.connections  SMTP connections that send all the while.
 */
export async function killRounds(
  cluster: Cluster,
  options: { rounds: number; seed: number; connections: number; say?(line: string): void },
): Promise<KillReport> {
  const random = randomSource(options.seed);
  const accounts = [
    cluster.account,
    await cluster.addAccount('second@postern.test'),
    await cluster.addAccount('third@postern.test'),
  ];
  const killed = { backend: 0, gateway: 0, members: 0, machine: 0 };
  const atMoment = { any: 0, 'in-data': 0, twice: 0 };
  const memberMs: number[] = [];
  const machineMs: number[] = [];
  const answeringMs: number[] = [];
  const sent: Outgoing[] = [];
  const setbacks: Record<string, number> = {};
  const midway = new Midway();
  let stopped = false;

  const sender = async (lane: number): Promise<void> => {
    for (let number = 0; !stopped; number++) {
      const message = numbered(accounts, lane, number, random);
      const report = await sendAll({ host: cluster.host, port: cluster.ports.smtp }, [message], {
        connections: 1,
        giveUpMs: 60_000,
        retryMs: 20,
        halfway: () => midway.pass(),
      });
      for (const [text, count] of report.setbacks) setbacks[text] = (setbacks[text] ?? 0) + count;
      sent.push(message);
    }
  };
  const lanes = Array.from({ length: options.connections }, (_, lane) => sender(lane));
  const failed = Promise.all(lanes).then(() => {});

  const rounds = async (): Promise<void> => {
    for (let round = 0; round < options.rounds; round++) {
      await sleep(random.between(20, 400));
      const victim = lots[random.between(0, lots.length - 1)]!;
      const moment = moments[random.between(0, moments.length - 1)]!;
      killed[victim]++;
      atMoment[moment]++;
      let struck = performance.now();
      const kill = async (): Promise<Struck> => {
        struck = performance.now();
        return strike(cluster, victim);
      };
      let hit = await (moment === 'in-data' ? midway.next(kill) : kill());
      if (moment === 'twice') {
        await replaced(cluster, hit);
        hit = await kill();
      }
      await ready(cluster, hit);
      const readyMs = performance.now() - struck;
      (victim === 'machine' ? machineMs : memberMs).push(readyMs);
      await cluster.answering();
      answeringMs.push(performance.now() - struck);
      options.say?.(`round ${round + 1}: ${victim}, ${moment}: ready again in ${Math.round(readyMs)} ms`);
    }
  };
  try {
    await Promise.race([rounds(), failed]);
  } finally {
    stopped = true;
    midway.open();
  }
  await failed;

  const held = { missing: 0, doubled: 0, strange: 0, copies: 0 };
  for (const account of accounts) {
    const stored = await storedCounts(cluster, account);
    for (const message of sent) {
      if (!message.to.includes(account.address)) continue;
      held.copies++;
      const count = stored.get(digest(message.data)) ?? 0;
      if (count === 0) held.missing++;
      if (count > 1) held.doubled++;
      stored.delete(digest(message.data));
    }
    held.strange += stored.size;
  }
  return {
    rounds: answeringMs.length,
    killed,
    moments: atMoment,
    acknowledged: sent.length,
    ...held,
    memberReadyMs: timesOf(memberMs),
    late: memberMs.filter((ms) => ms > readyMsPromised).length,
    machineReadyMs: timesOf(machineMs),
    answeringMs: timesOf(answeringMs),
    setbacks,
    seed: options.seed,
  };
}

/** What was killed: process ids by member, and how far the supervisor's words had come. */
interface Struck {
  readonly pids: Readonly<Record<string, number>>;
  readonly outputFrom: number;
}

async function strike(cluster: Cluster, victim: Victim): Promise<Struck> {
  if (victim === 'machine') {
    await cluster.killEverything();
    await cluster.startAgain();
    return { pids: {}, outputFrom: 0 };
  }
  const pids = Object.fromEntries(
    Object.entries(await cluster.memberPids()).filter(
      ([id]) => victim === 'members' || id.startsWith(victim),
    ),
  );
  const outputFrom = cluster.output().length;
  for (const pid of Object.values(pids)) killQuietly(pid);
  return { pids, outputFrom };
}

/** Every process that was killed has a successor, ready or not. */
async function replaced(cluster: Cluster, { pids }: Struck): Promise<void> {
  for (;;) {
    const now = await cluster.memberPids().catch(() => ({}) as Record<string, number>);
    if (Object.entries(pids).every(([id, pid]) => now[id] !== undefined && now[id] !== pid)) return;
    await sleep(5);
  }
}

/** The supervisor has said of each that it serves again: a backend says so when it owns its shards. */
async function ready(cluster: Cluster, { pids, outputFrom }: Struck): Promise<void> {
  const giveUpAt = performance.now() + 30_000;
  for (const id of Object.keys(pids)) {
    while (!cluster.output().slice(outputFrom).includes(`${id} serves again`)) {
      if (performance.now() > giveUpAt) throw new Error(`${id} is not back:\n${cluster.output()}`);
      await sleep(5);
    }
  }
}

/** Where senders stand still in mid-message while the kill they were waited for is done. */
class Midway {
  #work: (() => Promise<void>) | undefined;
  #open = false;

  /** A sender passes. The first one after `next` waits for its kill to be under way. */
  async pass(): Promise<void> {
    const work = this.#work;
    this.#work = undefined;
    await work?.();
  }

  /** Runs `work` when the next sender passes. */
  next<T>(work: () => Promise<T>): Promise<T> {
    return new Promise((resolve, reject) => {
      const run = async (): Promise<void> => {
        const result = work();
        result.then(resolve, reject);
        await Promise.race([result, sleep(50)]).catch(() => {});
      };
      if (this.#open) void run();
      else this.#work = run;
    });
  }

  /** Nobody will pass any more. */
  open(): void {
    this.#open = true;
    void this.#work?.();
    this.#work = undefined;
  }
}

function killQuietly(pid: number): void {
  try {
    process.kill(pid, 'SIGKILL');
  } catch {
    // gone already
  }
}

/** Every stored message of an account as the sender's bytes, counted. */
export async function storedCounts(
  cluster: Cluster,
  account: TestAccount = cluster.account,
): Promise<Map<string, number>> {
  const counts = new Map<string, number>();
  for (const stored of await pythonImaplib.read(cluster.access(account))) {
    const key = digest(withoutAddedHeaders(stored));
    counts.set(key, (counts.get(key) ?? 0) + 1);
  }
  return counts;
}

export const digest = (data: Buffer): string => createHash('sha256').update(data).digest('hex');

/** A message no other is equal to, for one to all of the accounts. */
function numbered(
  accounts: readonly TestAccount[],
  lane: number,
  number: number,
  random: RandomSource,
): Outgoing {
  const first = random.between(0, accounts.length - 1);
  const count = random.between(1, accounts.length);
  const to = Array.from({ length: count }, (_, n) => accounts[(first + n) % accounts.length]!.address);
  const lines = Math.ceil(random.between(200, 30_000) / 38);
  const head =
    `From: s@example.org\r\nTo: ${to.join(', ')}\r\nSubject: ${lane}/${number}\r\n` +
    `Message-ID: <${lane}.${number}@faults.example.org>\r\n\r\n`;
  const body = 'a line of an ordinary length, and more\r\n'.repeat(lines);
  return { from: 's@example.org', to, data: Buffer.from(head + body) };
}

function timesOf(list: readonly number[]): Times {
  const sorted = list.toSorted((a, b) => a - b);
  return {
    count: sorted.length,
    median: Math.round(sorted[sorted.length >> 1] ?? 0),
    max: Math.round(sorted.at(-1) ?? 0),
  };
}

const sleep = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms));
