/** How the bytes of a message stand in an mbox: what is needed to give back the very bytes. */

/** Bits of a `StoredForm`. */
export const formBit = {
  /** All lines ended with CRLF, and end with LF in the file. */
  crlf: 1,
  /** The last line had no end, and got an LF in the file. */
  openEnd: 2,
  /** The message has no lines of state itself: such lines are another program's. */
  hidesState: 4,
  /** Another program wrote it: a line that ends with LF alone is shown with CRLF. */
  foreign: 8,
} as const;

export type StoredForm = number;

const letters = [
  ['c', formBit.crlf],
  ['o', formBit.openEnd],
  ['h', formBit.hidesState],
  ['f', formBit.foreign],
] as const;

export function formatForm(form: StoredForm): string {
  let text = '';
  for (const [letter, bit] of letters) if (form & bit) text += letter;
  return text;
}

export function parseForm(text: string): StoredForm | undefined {
  let form = 0;
  for (const one of text) {
    const bit = letters.find(([letter]) => letter === one)?.[1];
    if (bit === undefined || form & bit) return undefined;
    form |= bit;
  }
  return form;
}
