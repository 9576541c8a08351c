/** What the HTTP door says by itself: refusals in few words, and the fields every answer carries. */
import type { ChainVerdict } from '../plugin-host/chain.ts';

export type HeaderFields = Record<string, string>;

/** On every answer. Nothing we serve is a page: whatever a browser makes of it may load and run nothing. */
export const safeFields: Readonly<HeaderFields> = {
  'strict-transport-security': 'max-age=31536000', // RFC 6797
  'x-content-type-options': 'nosniff',
  'content-security-policy': "default-src 'none'; frame-ancestors 'none'; sandbox",
  'referrer-policy': 'no-referrer',
  'cross-origin-resource-policy': 'same-origin',
};

export interface Refusal {
  readonly status: number;
  readonly words: string;
  readonly fields?: HeaderFields;
  /** The connection ends after the answer. */
  readonly close?: boolean;
}

/** Goes out with the challenges of `authorization.ts`. */
export const unauthorized: Refusal = { status: 401, words: 'Login needed' };
export const unavailable: Refusal = {
  status: 503,
  words: 'Try again later',
  fields: { 'retry-after': '10' },
};
export const tooMany: Refusal = {
  status: 429,
  words: 'Too many requests',
  fields: { 'retry-after': '60' },
  close: true,
};
export const notFound: Refusal = { status: 404, words: 'Not found' };
export const forbidden: Refusal = { status: 403, words: 'Refused' };

/** The words of the chain in HTTP. `undefined`: no objection; `disconnect`: no answer at all. */
export function refusalOf(verdict: ChainVerdict): Refusal | 'disconnect' | undefined {
  const words = plain(verdict.say);
  switch (verdict.word) {
    case 'pass':
    case 'accept':
    case 'throttle': // the chain has waited already
      return undefined;
    case 'defer':
      return { ...unavailable, words: words ?? unavailable.words };
    case 'reject':
      return { ...forbidden, words: words ?? forbidden.words };
    case 'disconnect':
      return 'disconnect';
  }
}

/** One short line of printable ASCII. */
function plain(text: string | undefined): string | undefined {
  return text?.replace(/[^\x20-\x7e]/g, ' ').slice(0, 200);
}
