/** How texts and needles meet in the index: as trigrams of one and the same spelling. */

/** Trigrams asked for at most; more would hardly leave out more messages. */
const trigramsMax = 24;

/**
 * The spelling that is indexed: folded text, without what the tokenizer or the folding of pieces would treat
 * differently from place to place. Both sides pass here, so nothing that matches is lost.
 */
export function indexSpelling(folded: string): string {
  // A final sigma depends on what follows; a NUL ends what SQLite's tokenizer reads.
  return folded.replaceAll('ς', 'σ').replaceAll('\0', '\u0001');
}

/** A query for messages that hold all trigrams of a needle; `undefined`: it is too short for one. */
export function trigramQuery(needle: string): string | undefined {
  const chars = [...indexSpelling(needle)];
  const count = chars.length - 2;
  if (count < 1) return undefined;
  const step = Math.max(1, count / trigramsMax);
  const trigrams = new Set<string>();
  for (let at = 0; at < count; at += step) {
    const start = Math.floor(at);
    trigrams.add(
      `"${chars
        .slice(start, start + 3)
        .join('')
        .replaceAll('"', '""')}"`,
    );
  }
  return [...trigrams].join(' AND ');
}
