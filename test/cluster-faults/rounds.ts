/** Rounds of faults under load, one row of cases after the other, and what came of them. */
import { setTimeout as sleep } from 'node:timers/promises';
import { randomSource } from '../support/random.ts';
import type { Rig } from './rig.ts';
import { rows } from './rows.ts';

/** All is well again within this, or it counts as a violation: machines that tests share can be slow. */
const recoverMsMax = 90_000;

export interface RoundsReport {
  readonly rounds: number;
  readonly seed: number;
  readonly perRow: Readonly<Record<string, number>>;
  readonly violations: readonly string[];
  readonly acknowledged: number;
  readonly answers: Readonly<Record<string, number>>;
  readonly maps: number;
  readonly grants: number;
  readonly historyGaps: number;
  /** From the end of the fault until every client had been answered anew, ms. */
  readonly recoveryMs: { readonly median: number; readonly max: number };
}

export async function faultRounds(
  rig: Rig,
  options: {
    rounds: number;
    seed: number;
    rows?: readonly number[];
    previous?: string | undefined;
    say?(line: string): void;
    stop?(): boolean;
  },
): Promise<RoundsReport> {
  const random = randomSource(options.seed);
  const order = options.rows ?? Object.keys(rows).map(Number);
  const perRow: Record<string, number> = {};
  const recovered: number[] = [];
  const broken: string[] = [];
  let rounds = 0;
  for (; rounds < options.rounds && options.stop?.() !== true; rounds++) {
    const row = order[rounds % order.length]!;
    rig.round(rounds + 1);
    await sleep(random.between(200, 900));
    let what: string;
    try {
      what = await rows[row]!({ rig, random, previous: options.previous });
    } catch (error) {
      what = (error as Error).message;
      broken.push(`row ${row}: ${what}`);
      await rig.network.heal();
    }
    perRow[row] = (perRow[row] ?? 0) + 1;
    for (const machine of rig.cluster.machines) {
      if (machine.isRunning) continue;
      broken.push(
        `row ${row} (${what}): ${machine.name} has ended by itself: ${machine.output().slice(-800)}`,
      );
      await machine.start(recoverMsMax).catch((error: Error) => broken.push(error.message.slice(0, 300)));
    }
    let tookMs = -1;
    try {
      tookMs = await rig.answering(recoverMsMax);
      recovered.push(tookMs);
    } catch (error) {
      broken.push(`goes on after faults, row ${row} (${what}): ${(error as Error).message}`);
    }
    const found = broken.length + rig.history.violations.length + rig.grants.violations.length;
    options.say?.(
      `round ${rounds + 1}, row ${row}: ${what}; answered again in ${tookMs} ms; violations ${found}`,
    );
  }
  await rig.finish().catch((error: Error) => broken.push(`the last reads: ${error.message}`));
  recovered.sort((a, b) => a - b);
  return {
    rounds,
    seed: options.seed,
    perRow,
    violations: [...broken, ...rig.history.violations, ...rig.grants.violations],
    acknowledged: rig.history.acknowledged,
    answers: rig.history.counts,
    maps: rig.grants.maps,
    grants: rig.grants.grants,
    historyGaps: rig.registry.gaps,
    recoveryMs: { median: recovered[recovered.length >> 1] ?? -1, max: recovered.at(-1) ?? -1 },
  };
}
