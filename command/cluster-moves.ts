/** `postern cluster drain …` and the like: what moves accounts between backends. */
import { setTimeout as sleep } from 'node:timers/promises';
import { Fault } from '../base/fault.ts';
import { askCluster, whoAsks } from './admin-client.ts';
import { amount, type Verdict } from './cluster-facts.ts';
import { type CommandCall, exitCode } from './command.ts';

const lookEveryMs = 100;
/** Without a move for so long something is stuck, and waiting on helps nobody. */
const stuckMs = 60_000;

interface Left {
  readonly member: string;
  readonly shards: number;
  readonly pins: number;
  readonly coming: number;
  readonly registered: boolean;
}
const leftOf = ({ shards, pins, coming }: Left): number => shards + pins + coming;

export async function drain(call: CommandCall): Promise<number> {
  const member = call.positionals[0]!;
  const startedAtMs = performance.now();
  let left = await askCluster<Left>(call.where, { op: 'cluster-drain', member, by: whoAsks() });
  if (call.values.wait !== true) {
    call.print(
      left,
      `${member} gives away ${amount(left.shards, 'shard')} and ${amount(left.pins, 'pinned account')}\n`,
    );
    return exitCode.done;
  }
  let changedAtMs = performance.now();
  while (leftOf(left) > 0) {
    if (performance.now() - changedAtMs > stuckMs)
      throw new Fault(
        'unavailable',
        `${member} still has ${amount(left.shards, 'shard')} and nothing has moved for a minute; "postern cluster status" and its log say why`,
      );
    await sleep(lookEveryMs);
    const now = await askCluster<Left>(call.where, { op: 'cluster-left', member });
    if (leftOf(now) !== leftOf(left)) changedAtMs = performance.now();
    left = now;
  }
  const tookMs = Math.round(performance.now() - startedAtMs);
  call.print(
    { ...left, tookMs },
    `${member} is empty, after ${tookMs} ms; it gets nothing until "postern cluster undrain ${member}"\n`,
  );
  return exitCode.done;
}

export async function undrain(call: CommandCall): Promise<number> {
  const member = call.positionals[0]!;
  const done = await askCluster<object>(call.where, { op: 'cluster-undrain', member, by: whoAsks() });
  call.print(done, `${member} takes its share again\n`);
  return exitCode.done;
}

export async function pin(call: CommandCall): Promise<number> {
  const [address, member] = call.positionals as [string, string];
  const done = await askCluster<object>(call.where, { op: 'cluster-pin', address, member, by: whoAsks() });
  call.print(done, `${address} goes to ${member} and stays there\n`);
  return exitCode.done;
}

export async function unpin(call: CommandCall): Promise<number> {
  const address = call.positionals[0]!;
  const done = await askCluster<object>(call.where, { op: 'cluster-unpin', address, by: whoAsks() });
  call.print(done, `${address} goes where its shard is\n`);
  return exitCode.done;
}

export async function move(call: CommandCall): Promise<number> {
  const [shard, member] = call.positionals as [string, string | undefined];
  const balance = call.values.balance === true;
  if ((member === undefined) !== balance)
    throw new Fault('bad-argument', 'cluster move: name a member, or write --balance in its place');
  const request = { op: 'cluster-move', shard, by: whoAsks() } as const;
  const done = await askCluster<object>(call.where, member === undefined ? request : { ...request, member });
  const words =
    member === undefined
      ? `shard ${shard} is balanced again`
      : `shard ${shard} goes to ${member} and stays there`;
  call.print(done, `${words}\n`);
  return exitCode.done;
}

export async function safeToStop(call: CommandCall): Promise<number> {
  const member = call.positionals[0]!;
  const found = await askCluster<Verdict>(call.where, { op: 'cluster-safe-to-stop', member });
  call.print(found, `${found.safe ? 'safe' : 'not safe'}: ${found.reason}\n`);
  return found.safe ? exitCode.done : exitCode.failed;
}

export async function restart(call: CommandCall): Promise<number> {
  const member = call.positionals[0]!;
  const done = await askCluster<{ tookMs: number }>(call.where, {
    op: 'member-restart',
    member,
    by: whoAsks(),
  });
  call.print(done, `${member} serves again, after ${done.tookMs} ms\n`);
  return exitCode.done;
}
