/**
 * A folder of recorded mail: `.eml` files, sorted into subfolders whose names
 * become labels. What a message's session was like stands in `sessions.jsonl`, one
 * JSON object a line (`file`, `client`, `greeting`, `from`, `to`); what is not there is
 * guessed from the message's own Received, Return-Path, From and To fields.
 */
import { createReadStream } from 'node:fs';
import { readdir, readFile, stat } from 'node:fs/promises';
import { isIP } from 'node:net';
import path from 'node:path';
import { createInterface } from 'node:readline';
import { Fault } from '../../base/fault.ts';
import { headerExtent, headerValues } from '../smtp/message-header.ts';
import type { RecordedMail } from './replay.ts';

const messageBytesMax = 64 * 1024 * 1024;
const lineCharsMax = 64 * 1024;
const recipientsMax = 20;

type Facts = Partial<Pick<RecordedMail, 'client' | 'greeting' | 'from' | 'to'>>;

/** @throws {Fault} `bad-argument` when the folder cannot be read, `bad-syntax` for a line of `sessions.jsonl` that is none. */
export async function* recordedMail(folder: string): AsyncGenerator<RecordedMail> {
  const sessions = await readSessions(path.join(folder, 'sessions.jsonl'));
  let files: string[];
  try {
    files = (await readdir(folder, { recursive: true })).filter((file) => file.endsWith('.eml')).sort();
  } catch (error) {
    throw new Fault('bad-argument', `${folder}: cannot be read; name a folder of .eml files`, {
      cause: error,
    });
  }
  if (files.length === 0) throw new Fault('bad-argument', `${folder}: there is no .eml file in it`);
  for (const file of files) {
    const place = path.join(folder, file);
    if ((await stat(place)).size > messageBytesMax) continue;
    const bytes = withCrlf(await readFile(place));
    const folderName = path.dirname(file).split(path.sep)[0]!;
    yield {
      name: file,
      label: folderName === '.' ? '' : folderName,
      bytes,
      ...guessed(bytes.subarray(0, headerExtent(bytes))),
      ...sessions.get(file),
    };
  }
}

async function readSessions(file: string): Promise<ReadonlyMap<string, Facts>> {
  const found = new Map<string, Facts>();
  if (
    !(await stat(file).then(
      () => true,
      () => false,
    ))
  )
    return found;
  let number = 0;
  for await (const line of createInterface({
    input: createReadStream(file),
    crlfDelay: Number.POSITIVE_INFINITY,
  })) {
    number++;
    if (line.trim() === '') continue;
    try {
      if (line.length > lineCharsMax) throw new Error('too long');
      const { file: name, client, greeting, from, to } = JSON.parse(line) as Record<string, unknown>;
      if (typeof name !== 'string') throw new Error('"file" is missing');
      if (client !== undefined && (typeof client !== 'string' || isIP(client) === 0))
        throw new Error('"client" is no address');
      found.set(name, {
        ...(typeof client === 'string' ? { client } : {}),
        ...(typeof greeting === 'string' ? { greeting } : {}),
        ...(typeof from === 'string' ? { from } : {}),
        ...(Array.isArray(to)
          ? { to: to.filter((one) => typeof one === 'string').slice(0, recipientsMax) }
          : {}),
      });
    } catch (error) {
      throw new Fault(
        'bad-syntax',
        `${path.basename(file)}:${number} ${(error as Error).message}; try {"file": "a.eml", "client": "192.0.2.1"}`,
      );
    }
  }
  return found;
}

function guessed(header: Buffer): Required<Facts> {
  const received = headerValues(header, 'Received')[0] ?? '';
  const client = [...received.slice(0, 2000).matchAll(/[[(](?:IPv6:)?([0-9a-f.:]{3,45})[\])]/gi)]
    .map(([, address = '']) => address)
    .find((address) => isIP(address) !== 0);
  const greeting = /^from\s+([\x21-\x7e]{1,255})/i.exec(received)?.[1];
  const from =
    addressIn(headerValues(header, 'Return-Path')[0]) ?? addressIn(headerValues(header, 'From')[0]);
  const to = addressIn(headerValues(header, 'Delivered-To')[0]) ?? addressIn(headerValues(header, 'To')[0]);
  return {
    client: client ?? '192.0.2.1',
    greeting: greeting ?? 'client.example',
    from: from ?? '',
    to: [to ?? 'recipient@example.com'],
  };
}

function addressIn(value: string | undefined): string | undefined {
  return /([^\s<>"(),:;]{1,64}@[a-z0-9.-]{1,253})/i.exec(value?.slice(0, 2000) ?? '')?.[1];
}

/** Files of a mailbox mostly have LF alone. */
function withCrlf(bytes: Buffer): Buffer {
  const text = bytes.toString('latin1');
  return /(?<!\r)\n/.test(text) ? Buffer.from(text.replace(/\r?\n/g, '\r\n'), 'latin1') : bytes;
}
