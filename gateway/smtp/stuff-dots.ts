/** Dot-stuffing (RFC 5321 4.5.2), for showing a message to Haraka in the form it reads. */

const dot = Buffer.from('.');

/** @param lineStart  Does `chunk` begin at the start of a line? */
export function stuffDots(chunk: Buffer, lineStart: boolean): Buffer[] {
  const pieces: Buffer[] = [];
  let sent = 0;
  if (lineStart && chunk[0] === 0x2e) pieces.push(dot);
  for (let at = chunk.indexOf('\n.'); at !== -1; at = chunk.indexOf('\n.', at + 1)) {
    pieces.push(chunk.subarray(sent, at + 1), dot);
    sent = at + 1;
  }
  pieces.push(chunk.subarray(sent));
  return pieces;
}
