/**
 * i;unicode-casemap (RFC 5051), the collation of I18NLEVEL=1 (RFC 5255): texts
 * that differ in case or in how a character is composed are the same.
 */

/** Characters whose capital is several: the collation maps one character to one. */
const several = /[\u00df\u0149\u01f0\u0390\u03b0\u0587\u1e96-\u1e9a\u1f50-\u1fff\ufb00-\ufb17]/;
const runs = new RegExp(`${several.source}|[^${several.source.slice(1)}+`, 'g');

/** What two texts are compared by. */
export function casemap(text: string): string {
  if (!/[^\u0000-\u007f]/.test(text)) return text.toUpperCase();
  return text
    .replace(runs, (run) => {
      const capital = run.toUpperCase();
      return run.length > 1 || capital.length === 1 ? capital : run;
    })
    .normalize('NFKD');
}
