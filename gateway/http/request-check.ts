/**
 * What a request's header has to look like before anything is done with it.
 * Whatever two readers of HTTP could understand differently is refused and the
 * connection ends (CASES 80; RFC 9112 6.3, 9.3, 11.2).
 */

export const headersMax = 64;
/** Of one request, names and values together. */
export const headerBytesMax = 16 * 1024;

export type HeaderCheck =
  | { readonly ok: true; readonly authority: string }
  | { readonly ok: false; readonly status: 400 | 413 | 431 | 501; readonly why: string };

const authorityForm =
  /^[A-Za-z0-9](?:[A-Za-z0-9.-]{0,252})(?::\d{1,5})?$|^\[[0-9A-Fa-f:.]{2,45}\](?::\d{1,5})?$/;

/** @param rawHeaders  Names and values in turn, as they came. */
export function checkHttp1(
  httpVersion: string,
  rawHeaders: readonly string[],
  bodyBytesMax: number,
): HeaderCheck {
  const bad = (why: string, status: 400 | 413 | 431 | 501 = 400): HeaderCheck => ({ ok: false, status, why });
  if (rawHeaders.length / 2 > headersMax) return bad('too many header fields', 431);
  const lengths = valuesOf(rawHeaders, 'content-length');
  const codings = valuesOf(rawHeaders, 'transfer-encoding');
  const hosts = valuesOf(rawHeaders, 'host');
  if (lengths.length > 1 || codings.length > 1 || hosts.length > 1) return bad('a field is there twice');
  const [length] = lengths;
  const [coding] = codings;
  if (length !== undefined && coding !== undefined) return bad('two body lengths');
  if (coding !== undefined && (httpVersion !== '1.1' || coding.toLowerCase() !== 'chunked')) {
    return bad('transfer coding', 501);
  }
  if (length !== undefined && !/^\d{1,15}$/.test(length)) return bad('body length');
  if (length !== undefined && Number(length) > bodyBytesMax) return bad('body too large', 413);
  const [host] = hosts;
  if (host === undefined || !authorityForm.test(host)) return bad('host');
  return { ok: true, authority: host };
}

/** HTTP/2 has one way to say how long a body is; nghttp2 has checked names, values and pseudo-headers. */
export function checkHttp2(
  headers: Readonly<Record<string, string | string[] | undefined>>,
  bodyBytesMax: number,
): HeaderCheck {
  const bad = (why: string, status: 400 | 413 = 400): HeaderCheck => ({ ok: false, status, why });
  const { host } = headers;
  const authority = headers[':authority'] ?? host;
  if (typeof authority !== 'string' || !authorityForm.test(authority)) return bad('authority');
  if (host !== undefined && host !== authority) return bad('two authorities'); // RFC 9113 8.3.1
  const length = headers['content-length'];
  if (length !== undefined && (typeof length !== 'string' || !/^\d{1,15}$/.test(length)))
    return bad('body length');
  if (length !== undefined && Number(length) > bodyBytesMax) return bad('body too large', 413);
  return { ok: true, authority };
}

function valuesOf(rawHeaders: readonly string[], name: string): string[] {
  const values: string[] = [];
  for (let at = 0; at + 1 < rawHeaders.length; at += 2) {
    if ((rawHeaders[at] as string).toLowerCase() === name) values.push((rawHeaders[at + 1] as string).trim());
  }
  return values;
}
