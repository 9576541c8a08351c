/** Durations and sizes as people write them in a configuration file. */

const durationMs: Record<string, number> = { ms: 1, s: 1000, m: 60_000, h: 3_600_000, d: 86_400_000 };
const sizeBytes: Record<string, number> = {
  B: 1,
  KiB: 1024,
  MiB: 1024 ** 2,
  GiB: 1024 ** 3,
  TiB: 1024 ** 4,
  KB: 1000,
  MB: 1000 ** 2,
  GB: 1000 ** 3,
};

/** `"10m"` → 600000. `undefined` when it is not a duration. Units: ms, s, m, h, d. */
export function parseDuration(text: string): number | undefined {
  const found = /^(\d{1,12}(?:\.\d{1,6})?)\s?(ms|s|m|h|d)$/.exec(text.trim());
  if (!found) return undefined;
  return Math.round(Number(found[1]) * durationMs[found[2]!]!);
}

/** `"25MiB"` → 26214400. `undefined` when it is not a size. Units: B, KiB, MiB, GiB, TiB, KB, MB, GB. */
export function parseSize(text: string): number | undefined {
  const found = /^(\d{1,15}(?:\.\d{1,6})?)\s?(B|KiB|MiB|GiB|TiB|KB|MB|GB)$/.exec(text.trim());
  if (!found) return undefined;
  return Math.round(Number(found[1]) * sizeBytes[found[2]!]!);
}

/** 600000 → `"10m"`: the largest unit that divides it. */
export function formatDuration(ms: number): string {
  for (const unit of ['d', 'h', 'm', 's'] as const) {
    if (ms !== 0 && ms % durationMs[unit]! === 0) return `${ms / durationMs[unit]!}${unit}`;
  }
  return `${ms}ms`;
}

/** 26214400 → `"25MiB"`: the largest binary unit that divides it. */
export function formatSize(bytes: number): string {
  for (const unit of ['TiB', 'GiB', 'MiB', 'KiB'] as const) {
    if (bytes !== 0 && bytes % sizeBytes[unit]! === 0) return `${bytes / sizeBytes[unit]!}${unit}`;
  }
  return `${bytes}B`;
}
