/** Blob ids: a whole message, or one part of it, decoded. */

export interface Blob {
  readonly emailId: string;
  /** Numbers of the parts from the outside in, from 1; empty: the whole message, byte for byte. */
  readonly path: readonly number[];
}

const pathLengthMax = 100;

/** `m<emailId>`, or `p1_2-<emailId>`. */
export function blobId(emailId: string, path: readonly number[]): string {
  return path.length === 0 ? `m${emailId}` : `p${path.join('_')}-${emailId}`;
}

export function parseBlobId(text: string): Blob | undefined {
  const found = /^(?:m|p((?:\d{1,5}_)*\d{1,5})-)([A-Za-z0-9_-]{1,200})$/.exec(text);
  if (found === null) return undefined;
  const path = found[1] === undefined ? [] : found[1].split('_').map(Number);
  return path.length > pathLengthMax ? undefined : { emailId: found[2] as string, path };
}
