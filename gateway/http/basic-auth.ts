/** Basic authentication as RFC 7617 has it, with `charset="UTF-8"`. */

export const challenge = 'Basic realm="Postern", charset="UTF-8"';

/** Longest field value that is looked at. */
const fieldCharsMax = 4096;

export interface BasicCredentials {
  readonly user: string;
  readonly password: string;
}

/** The credentials of an `Authorization` field; `undefined` when there are none or they are malformed. */
export function basicCredentials(field: string | undefined): BasicCredentials | undefined {
  if (field === undefined || field.length > fieldCharsMax) return undefined;
  const found = /^basic +([A-Za-z0-9+/_-]+={0,2})$/i.exec(field);
  if (found === null) return undefined;
  let text: string;
  try {
    text = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(
      Buffer.from(found[1] as string, 'base64'),
    );
  } catch {
    return undefined;
  }
  const colon = text.indexOf(':');
  // RFC 7617 2: neither may hold control characters.
  if (colon <= 0 || colon === text.length - 1 || /[\0-\x1f\x7f]/.test(text)) return undefined;
  return { user: text.slice(0, colon), password: text.slice(colon + 1) };
}
