/** Leaves scenes out of a failing play as long as it goes on failing, so that people can read what is left. */
import type { PlayReport } from './play.ts';

/** @param give  Gives the play again with some scenes only. */
export async function shortened(
  report: PlayReport,
  scenes: readonly number[],
  give: (scenes: readonly number[]) => Promise<PlayReport>,
  deadlineMs = 60_000,
): Promise<PlayReport> {
  const until = performance.now() + deadlineMs;
  let best = report;
  let left = scenes;
  for (let size = Math.ceil(scenes.length / 2); size >= 1; size = Math.floor(size / 2)) {
    for (let at = 0; at < left.length && performance.now() < until; ) {
      const fewer = [...left.slice(0, at), ...left.slice(at + size)];
      const again = await give(fewer);
      if (again.finding !== undefined) {
        best = again;
        left = fewer;
      } else at += size;
    }
  }
  return best;
}
