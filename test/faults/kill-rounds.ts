/**
 * Kills members at random moments while mail is delivered, and holds the store
 * against what was acknowledged: each message that got its 250 is there exactly
 * once, and a dead member is back within the time that was promised.
 */
import { createHash } from 'node:crypto';
import { pythonImaplib } from '../clients/mail-readers.ts';
import type { Cluster } from '../support/cluster.ts';
import { type Outgoing, sendAll, withoutAddedHeaders } from '../support/mail-sender.ts';
import { randomSource } from '../support/random.ts';

export type Victim = 'backend' | 'gateway' | 'members' | 'machine';
export const victims: readonly Victim[] = ['backend', 'gateway', 'backend', 'gateway', 'members', 'machine'];

export interface KillReport {
  readonly rounds: number;
  readonly killed: Readonly<Record<Victim, number>>;
  readonly acknowledged: number;
  readonly missing: number;
  readonly doubled: number;
  /** Stored though never acknowledged and never sent: must stay 0. */
  readonly strange: number;
  /** Time until every member had a new process and the edge answered again, per round, ms. */
  readonly backMs: { readonly median: number; readonly max: number };
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
  const killed: Record<Victim, number> = { backend: 0, gateway: 0, members: 0, machine: 0 };
  const backMs: number[] = [];
  const sent: Outgoing[] = [];
  const setbacks: Record<string, number> = {};
  let stopped = false;

  const sender = async (lane: number): Promise<void> => {
    for (let number = 0; !stopped; number++) {
      const message = numbered(cluster.account.address, lane, number, random.between(200, 30_000));
      const report = await sendAll({ host: cluster.host, port: cluster.ports.smtp }, [message], {
        connections: 1,
        giveUpMs: 60_000,
        retryMs: 20,
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
      const victim = victims[random.between(0, victims.length - 1)]!;
      killed[victim]++;
      const startedAt = performance.now();
      await strike(cluster, victim);
      backMs.push(performance.now() - startedAt);
      options.say?.(`round ${round + 1}: ${victim} back in ${Math.round(backMs.at(-1)!)} ms`);
    }
  };
  try {
    await Promise.race([rounds(), failed]);
  } finally {
    stopped = true;
  }
  await failed;

  const stored = await storedCounts(cluster);
  let missing = 0;
  let doubled = 0;
  for (const message of sent) {
    const count = stored.get(digest(message.data)) ?? 0;
    if (count === 0) missing++;
    if (count > 1) doubled++;
    stored.delete(digest(message.data));
  }
  backMs.sort((a, b) => a - b);
  return {
    rounds: backMs.length,
    killed,
    acknowledged: sent.length,
    missing,
    doubled,
    strange: stored.size,
    backMs: { median: Math.round(backMs[backMs.length >> 1] ?? 0), max: Math.round(backMs.at(-1) ?? 0) },
    setbacks,
    seed: options.seed,
  };
}

async function strike(cluster: Cluster, victim: Victim): Promise<void> {
  const before = await cluster.memberPids();
  const hit = Object.entries(before).filter(
    ([id]) => victim === 'members' || victim === 'machine' || id.startsWith(victim),
  );
  if (victim === 'machine') await cluster.killEverything();
  else for (const [, pid] of hit) process.kill(pid, 'SIGKILL');
  if (victim === 'machine') await cluster.startAgain();
  for (;;) {
    const now = await cluster.memberPids().catch(() => ({}) as Record<string, number>);
    if (hit.every(([id, pid]) => now[id] !== undefined && now[id] !== pid)) break;
    await sleep(20);
  }
  await cluster.answering();
}

/** Every stored message as the sender's bytes, counted. */
export async function storedCounts(cluster: Cluster): Promise<Map<string, number>> {
  const counts = new Map<string, number>();
  for (const stored of await pythonImaplib.read(cluster.access())) {
    const key = digest(withoutAddedHeaders(stored));
    counts.set(key, (counts.get(key) ?? 0) + 1);
  }
  return counts;
}

export const digest = (data: Buffer): string => createHash('sha256').update(data).digest('hex');

function numbered(to: string, lane: number, number: number, size: number): Outgoing {
  const head = `From: s@example.org\r\nTo: ${to}\r\nSubject: ${lane}/${number}\r\nMessage-ID: <${lane}.${number}@faults.example.org>\r\n\r\n`;
  return {
    from: 's@example.org',
    to: [to],
    data: Buffer.from(`${head}${'all work and no play makes mail dull\r\n'.repeat(Math.ceil(size / 38))}`),
  };
}

const sleep = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms));
