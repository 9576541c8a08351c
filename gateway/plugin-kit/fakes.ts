/**
 * Sessions and messages for tests of plugins: what a door would show, made from a
 * few words. What the API promises holds for them too (bounded header values,
 * streams that end), so that a plugin that passes its test meets nothing new.
 */
import { Readable } from 'node:stream';
import { clientOf } from '../net/address.ts';
import { messageParts } from '../plugin-host/message-parts.ts';
import type { Envelope, Message, Session, Wire } from '../plugins/api.ts';
import { newSession } from '../session/new-session.ts';
import { headerExtent, headerNames, headerValues } from '../smtp/message-header.ts';

const sliceBytes = 64 * 1024;

export interface FakeSessionFacts extends Partial<Omit<Session, 'client'>> {
  /** The client's address. Default: 192.0.2.1. */
  readonly address?: string;
  readonly port?: number;
}

/** A session as a plugin sees it. Default: an SMTP client at 192.0.2.1 that greeted as `client.example`. */
export function fakeSession(facts: FakeSessionFacts = {}): Session {
  const { address = '192.0.2.1', port = 40_000, protocol = 'smtp', ...rest } = facts;
  const greeting = protocol === 'smtp' || protocol === 'submission' ? 'client.example' : undefined;
  return { ...newSession(protocol, clientOf(address, port), '[::]:0'), greeting, ...rest };
}

/**
 * A message as a plugin sees it.
 * @param content  The whole of it; line ends may be LF. Or its header fields and its text.
 */
export function fakeMessage(
  content: string | Buffer | { readonly fields: Readonly<Record<string, string>>; readonly text?: string },
  envelope: Partial<Envelope> = {},
): Message {
  const bytes = Buffer.isBuffer(content) ? content : Buffer.from(textOf(content));
  const header = bytes.subarray(0, headerExtent(bytes));
  let parts: ReturnType<Message['parts']> | undefined;
  return {
    envelope: { from: 'sender@example.org', to: ['recipient@example.com'], ...envelope },
    size: bytes.length,
    header: (name) => headerValues(header, name),
    names: () => headerNames(header),
    parts() {
      parts ??= messageParts({ size: bytes.length, read: async (start, end) => bytes.subarray(start, end) });
      return parts;
    },
    stream() {
      const slices: Buffer[] = [];
      for (let at = 0; at < bytes.length; at += sliceBytes) slices.push(bytes.subarray(at, at + sliceBytes));
      return Readable.from(slices, { objectMode: false });
    },
  };
}

/** What the wire shows before the greeting. @param spoke  The client sent something first. */
export function fakeWire(spoke = false): Wire {
  return { spokeFirst: async () => spoke };
}

function textOf(content: string | { fields: Readonly<Record<string, string>>; text?: string }): string {
  if (typeof content === 'string') return content.replace(/\r?\n/g, '\r\n');
  const fields = Object.entries(content.fields).map(([name, value]) => `${name}: ${value}\r\n`);
  return `${fields.join('')}\r\n${(content.text ?? '').replace(/\r?\n/g, '\r\n')}`;
}
