/** Runs targets against mutated inputs for a while and collects what went wrong. */
import { isFault } from '../../base/fault.ts';
import { randomSource } from '../support/random.ts';
import { mutated } from './mutation.ts';
import type { FuzzTarget } from './targets.ts';

/** Slower than this for at most 64 KiB of input, three times in a row, is a finding: something is not linear. */
export const slowMs = 250;

export interface Finding {
  readonly target: string;
  readonly reason: string;
  readonly inputBase64: string;
}

export interface CampaignReport {
  readonly runs: number;
  readonly perTarget: Readonly<Record<string, number>>;
  readonly findings: readonly Finding[];
  readonly seed: number;
}

/** @param options.done  Asked after each batch of inputs. */
export function campaign(
  targets: readonly FuzzTarget[],
  options: { seed: number; done(runs: number): boolean; findingsMax?: number },
): CampaignReport {
  const random = randomSource(options.seed);
  const perTarget: Record<string, number> = {};
  const findings: Finding[] = [];
  const pools = new Map<FuzzTarget, Buffer[]>(
    targets.map((target) => [target, target.seeds.map((seed) => Buffer.from(seed, 'latin1'))]),
  );
  let runs = 0;
  while (!options.done(runs) && findings.length < (options.findingsMax ?? 20)) {
    for (const target of targets) {
      for (let batch = 0; batch < 50; batch++) {
        const pool = pools.get(target)!;
        const input = mutated(pool, random);
        const reason = judge(target, input);
        runs++;
        perTarget[target.name] = (perTarget[target.name] ?? 0) + 1;
        if (reason !== undefined)
          findings.push({
            target: target.name,
            reason,
            inputBase64: input.toString('base64').slice(0, 4000),
          });
        // Now and then an input becomes a seed, so that mutations pile up.
        if (random.between(0, 99) === 0 && input.length < 4096)
          pool[random.between(target.seeds.length, Math.min(pool.length, target.seeds.length + 30))] = input;
      }
    }
  }
  return { runs, perTarget, findings, seed: options.seed };
}

function judge(target: FuzzTarget, input: Buffer): string | undefined {
  for (let attempt = 1; ; attempt++) {
    const startedAt = performance.now();
    try {
      target.run(input);
    } catch (error) {
      if (!isFault(error)) return error instanceof Error ? `${error.name}: ${error.message}` : String(error);
    }
    const tookMs = performance.now() - startedAt;
    if (tookMs <= slowMs) return undefined;
    // The machine may have been busy: only what is slow again and again is our fault.
    if (attempt === 3) return `took ${Math.round(tookMs)} ms for ${input.length} bytes`;
  }
}
