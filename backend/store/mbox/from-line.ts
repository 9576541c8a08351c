/**
 * The line that begins a message in an mbox (RFC 4155): `From `, a sender and
 * the time of arrival in UTC. Only a line that ends in such a time and follows
 * an empty line begins a message: bodies have lines that merely start so.
 */

const days = ['Sun', 'Mon', 'Tue', 'Wed', 'Thu', 'Fri', 'Sat'];
const months = ['Jan', 'Feb', 'Mar', 'Apr', 'May', 'Jun', 'Jul', 'Aug', 'Sep', 'Oct', 'Nov', 'Dec'];

/** Some programs put a zone before or after the year, or leave the seconds out. */
const pattern =
  /^From (\S.{0,400}? )?(?:Sun|Mon|Tue|Wed|Thu|Fri|Sat) +(Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec) +(\d{1,2}) +(\d{2}):(\d{2})(?::(\d{2}))?(?: +(?:[A-Z]{1,5}|[+-]\d{4})){0,2} +(\d{4})(?: +(?:[A-Z]{1,5}|[+-]\d{4}))?(?: +remote from \S{1,200})?\s*$/;

export const fromLineBytesMax = 998;

/** Time of arrival in seconds since 1970, or `undefined`: no message begins here. @param line  Latin-1, its end included. */
export function parseFromLine(line: string): number | undefined {
  if (!line.startsWith('From ') || line.length > fromLineBytesMax) return undefined;
  const found = pattern.exec(line);
  if (!found) return undefined;
  const [, , month, day, hour, minute, second, year] = found;
  const ms = Date.UTC(
    Number(year),
    months.indexOf(month!),
    Number(day),
    Number(hour),
    Number(minute),
    Number(second ?? 0),
  );
  return Number.isFinite(ms) && ms >= 0 ? Math.min(ms / 1000, 0xffffffff) : 0;
}

export function formatFromLine(seconds: number): string {
  const date = new Date(seconds * 1000);
  const two = (value: number): string => String(value).padStart(2, '0');
  const day = String(date.getUTCDate()).padStart(2, ' ');
  const time = `${two(date.getUTCHours())}:${two(date.getUTCMinutes())}:${two(date.getUTCSeconds())}`;
  return `From MAILER-DAEMON ${days[date.getUTCDay()]} ${months[date.getUTCMonth()]} ${day} ${time} ${date.getUTCFullYear()}\n`;
}
