/** A message on its way into an mbox: its bytes in memory or in a file, and what they become there. */
import { crc32 } from 'node:zlib';
import { formatMessageName, type MessageName } from '../message-name.ts';
import { formatFromLine } from './from-line.ts';
import { FormFinder, toStored } from './line-rewriter.ts';
import type { Appended } from './mbox-file.ts';
import { headerBytesMax, stateLinesOf } from './state-lines.ts';
import type { StoredForm } from './stored-form.ts';

/** Gives the same bytes each time it is asked. */
export type Pieces = () => AsyncIterable<Buffer>;

/** What is known of a message once it was read through. */
export interface Prepared {
  readonly form: StoredForm;
  readonly storedBytes: number;
  /** CRC-32 of the stored bytes. */
  readonly sum: number;
  readonly pieces: Pieces;
}

/** Reads a message through, twice: its form depends on all of it. */
export async function prepareMessage(pieces: Pieces): Promise<Prepared> {
  const finder = new FormFinder();
  let header: Buffer = Buffer.alloc(0);
  for await (const piece of pieces()) {
    finder.push(piece);
    if (header.length < headerBytesMax) header = Buffer.concat([header, piece.subarray(0, headerBytesMax)]);
  }
  const form = finder.form(stateLinesOf(header.toString('latin1')).size > 0);
  let storedBytes = 0;
  let sum = 0;
  for await (const piece of storedPieces(pieces, form)) {
    storedBytes += piece.length;
    sum = crc32(piece, sum);
  }
  return { form, storedBytes, sum, pieces };
}

async function* storedPieces(pieces: Pieces, form: StoredForm): AsyncGenerator<Buffer> {
  const rewriter = toStored(form);
  for await (const piece of pieces()) {
    const bytes = rewriter.push(piece);
    if (bytes.length > 0) yield bytes;
  }
  const last = rewriter.end();
  if (last.length > 0) yield last;
}

/** @param name  `fileBytes` is what is stored. */
export function appendedMessage(prepared: Prepared, name: MessageName): Appended & { readonly text: string } {
  const text = formatMessageName({ ...name, fileBytes: prepared.storedBytes });
  return {
    uid: name.uid,
    form: prepared.form,
    text,
    line: Buffer.from(formatFromLine(text, prepared.form, name.seconds), 'latin1'),
    storedBytes: prepared.storedBytes,
    pieces: () => storedPieces(prepared.pieces, prepared.form),
  };
}
