/** Medians, ratios and the table at the end of a bench run. */

export function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b);
  const middle = sorted.length >> 1;
  if (sorted.length === 0) return Number.NaN;
  return sorted.length % 2 === 1 ? sorted[middle]! : (sorted[middle - 1]! + sorted[middle]!) / 2;
}

/** What has to be reached: a ratio to the peer in the same run, or a figure of its own. */
export type Mark =
  | { readonly atLeastTimes: number }
  | { readonly atMostTimes: number }
  | { readonly atMost: number };

/** What one work measured for us and for one peer, round by round. */
export interface Comparison {
  readonly work: string;
  readonly unit: string;
  readonly peer: string;
  readonly ours: readonly number[];
  readonly theirs: readonly number[];
  readonly mark: Mark | undefined;
}

/** Ratio of the medians, ours to theirs. */
export function ratioOf(comparison: Comparison): number {
  return median(comparison.ours) / median(comparison.theirs);
}

export function reached(comparison: Comparison): boolean | undefined {
  const { mark } = comparison;
  if (mark === undefined) return undefined;
  if ('atMost' in mark) return median(comparison.ours) <= mark.atMost;
  const ratio = ratioOf(comparison);
  return 'atLeastTimes' in mark ? ratio >= mark.atLeastTimes : ratio <= mark.atMostTimes;
}

function markText(mark: Mark, unit: string): string {
  if ('atMost' in mark) return `<= ${mark.atMost} ${unit}`;
  return 'atLeastTimes' in mark ? `>= ${mark.atLeastTimes} x` : `<= ${mark.atMostTimes} x`;
}

const round = (value: number): string =>
  value >= 100 ? value.toFixed(0) : value.toFixed(value >= 10 ? 1 : 2);

export function tableOf(comparisons: readonly Comparison[]): string {
  const rows = [['work', 'Postern', 'peer', 'its figure', 'ratio', 'mark', '']];
  for (const one of comparisons) {
    const range =
      one.ours.length > 1 ? ` (${round(Math.min(...one.ours))}-${round(Math.max(...one.ours))})` : '';
    const theirs = one.theirs.length > 0 ? `${round(median(one.theirs))} ${one.unit}` : '-';
    const ok = reached(one);
    rows.push([
      one.work,
      `${round(median(one.ours))} ${one.unit}${range}`,
      one.peer,
      theirs,
      one.theirs.length > 0 ? `${round(ratioOf(one))} x` : '-',
      one.mark === undefined ? '' : markText(one.mark, one.unit),
      ok === undefined ? '' : ok ? 'reached' : 'MISSED',
    ]);
  }
  const widths = rows[0]!.map((_, column) => Math.max(...rows.map((row) => row[column]!.length)));
  return rows
    .map((row) =>
      row
        .map((cell, column) => cell.padEnd(widths[column]!))
        .join('  ')
        .trimEnd(),
    )
    .join('\n');
}
