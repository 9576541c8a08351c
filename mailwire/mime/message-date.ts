/** The Date field (RFC 5322 3.3, with the obsolete forms of 4.3), read within bounds. */

const months = ['jan', 'feb', 'mar', 'apr', 'may', 'jun', 'jul', 'aug', 'sep', 'oct', 'nov', 'dec'];
const zones: Readonly<Record<string, number>> = {
  edt: -240,
  est: -300,
  cdt: -300,
  cst: -360,
  mdt: -360,
  mst: -420,
  pdt: -420,
  pst: -480,
};

export interface MessageDate {
  /** ms since 1970. */
  readonly ms: number;
  /** ms of midnight UTC of the day as written, whatever its zone: what SENTON and its kin compare. */
  readonly dayMs: number;
}

/** `Tue, 1 Jul 2003 10:52:37 +0200 (CEST)`; `undefined` when it is no date. */
export function parseMessageDate(value: string): MessageDate | undefined {
  const found =
    /^\s*(?:[A-Za-z]{3,9}\s*,?\s*)?(\d{1,2})[\s-]{1,5}([A-Za-z]{3})[a-z]{0,6}[\s-]{1,5}(\d{2,4})(?:\s{1,5}(\d{1,2}):(\d{1,2})(?::(\d{1,2}))?(?:\s{1,5}([+-]\d{4}|[A-Za-z]{1,5}))?)?/.exec(
      value.slice(0, 200),
    );
  if (!found) return undefined;
  const month = months.indexOf(found[2]!.toLowerCase());
  let year = Number(found[3]);
  if (found[3]!.length < 4) year += year < 50 ? 2000 : 1900;
  // RFC 5322 3.3: 1900 or later. Programs that were not ready for 2000 wrote 0102.
  if (year < 1900) return undefined;
  const day = Number(found[1]);
  const dayMs = Date.UTC(year, month, day);
  if (month < 0 || Number.isNaN(dayMs) || new Date(dayMs).getUTCDate() !== day) return undefined;
  const time = ((Number(found[4] ?? 0) * 60 + Number(found[5] ?? 0)) * 60 + Number(found[6] ?? 0)) * 1000;
  return { ms: dayMs + time - zoneMinutes(found[7]) * 60_000, dayMs };
}

function zoneMinutes(zone: string | undefined): number {
  if (zone === undefined) return 0;
  if (!/^[+-]/.test(zone)) return zones[zone.toLowerCase()] ?? 0;
  const minutes = Number(zone.slice(1, 3)) * 60 + Number(zone.slice(3, 5));
  return zone[0] === '-' ? -minutes : minutes;
}
