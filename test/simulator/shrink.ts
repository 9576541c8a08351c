/** Makes a play that breaks something as short as it gets: what a person has to read to see why. */
import type { Act, Play } from './play.ts';
import type { ScheduleResult } from './schedule.ts';

const triesMax = 400;

/** @returns The play and what it breaks; the kind of what breaks stays the same. */
export function shrink(
  play: Play,
  run: (play: Play) => ScheduleResult,
): { readonly play: Play; readonly violation: string } | undefined {
  const first = run(play).violation;
  if (first === undefined) return undefined;
  let best = { play, violation: first };
  let tries = 0;
  const kind = kindOf(first);
  const better = (candidate: Play): boolean => {
    if (++tries > triesMax) return false;
    const { violation } = run(candidate);
    if (violation === undefined || kindOf(violation) !== kind) return false;
    best = { play: candidate, violation };
    return true;
  };
  for (let again = true; again; ) {
    again = false;
    // Other draws of what is left to chance, for the case that a shorter play needs another.
    for (let index = best.play.acts.length - 1; index >= 0; index--) {
      const acts = best.play.acts.filter((_, at) => at !== index);
      if (better({ ...best.play, acts })) again = true;
    }
    const { gateways, backends, shards, accounts, noise, faultyMs } = best.play;
    for (const smaller of [
      { noise: 0 },
      { gateways: gateways - 1 },
      { backends: backends - 1 },
      { shards: shards - 1 },
      { accounts: accounts - 1 },
      { faultyMs: Math.round(faultyMs * 0.7) },
    ])
      if (Object.entries(smaller).every(([name, value]) => value > 0 || (name === 'noise' && noise > 0)))
        if (names(best.play.acts, { ...best.play, ...smaller }) && better({ ...best.play, ...smaller }))
          again = true;
    if (tries > triesMax) break;
  }
  return best;
}

function kindOf(violation: string): string {
  return /^at \d+ ms: ([^:]*)/.exec(violation)?.[1] ?? violation;
}

/** Does every act name somebody who is in the play? */
function names(acts: readonly Act[], { backends, gateways, shards, accounts }: Play): boolean {
  const exists = (who: string): boolean => {
    const [, role, number] = /^(backend|gateway)-(\d+)$/.exec(who) ?? [];
    return role === undefined || Number(number) <= (role === 'backend' ? backends : gateways);
  };
  return acts.every(
    (act) =>
      (!('who' in act) || exists(act.who)) &&
      (!('from' in act) || (exists(act.from) && exists(act.to))) &&
      (!('shard' in act) || act.shard < shards) &&
      (!('account' in act) || act.account <= accounts),
  );
}
