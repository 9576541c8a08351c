/** Sessions, messages and plugin files for tests of the chain. */
import { mkdir, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { Readable } from 'node:stream';
import type { PluginEntry } from '../../../base/config-file.ts';
import type { Log } from '../../../base/log.ts';
import { messageParts } from '../../../gateway/plugin-host/message-parts.ts';
import type { Message, Session, Wire } from '../../../gateway/plugins/api.ts';
import {
  headerExtent,
  headerNames as namesOf,
  headerValues as valuesOf,
} from '../../../gateway/smtp/message-header.ts';

let sessions = 0;

export function session(facts: Partial<Session> & { address?: string } = {}): Session {
  const { address = '192.0.2.1', ...rest } = facts;
  return {
    id: `s${++sessions}`,
    protocol: 'smtp',
    client: {
      address,
      port: 4711,
      network: address,
      wideNetwork: `${address.split('.').slice(0, 3).join('.')}.0/24`,
    },
    listener: '[::]:2525',
    startedAtMs: Date.now(),
    tls: undefined,
    greeting: 'client.test',
    account: undefined,
    ...rest,
  };
}

export function message(text: string | Buffer, opened: Readable[] = []): Message {
  const bytes = Buffer.from(text);
  return {
    envelope: { from: 'a@example.org', to: ['demo@postern.test'] },
    size: bytes.length,
    header: (name) => valuesOf(bytes.subarray(0, headerExtent(bytes)), name),
    names: () => namesOf(bytes.subarray(0, headerExtent(bytes))),
    parts: () => messageParts({ size: bytes.length, read: async (start, end) => bytes.subarray(start, end) }),
    stream() {
      const chunks: Buffer[] = [];
      for (let at = 0; at < bytes.length; at += 65536) chunks.push(bytes.subarray(at, at + 65536));
      const stream = Readable.from(chunks, { objectMode: false });
      opened.push(stream);
      return stream;
    },
  };
}

export const quietWire: Wire = { spokeFirst: async () => false };

export const entry = (
  use: string,
  options: Record<string, unknown> = {},
  mode: 'enforce' | 'watch' = 'enforce',
): PluginEntry => ({ use, mode, options, place: (key) => `postern.toml:7 plugin.${key}` });

/** A log that remembers. */
export function rememberingLog(): {
  log: Log;
  records: { level: string; facts: Record<string, unknown>; text: string }[];
} {
  const records: { level: string; facts: Record<string, unknown>; text: string }[] = [];
  const make = (level: string) => (facts: unknown, text: unknown) => {
    records.push({ level, facts: facts as Record<string, unknown>, text: String(text) });
  };
  const log = {
    debug: make('debug'),
    info: make('info'),
    warn: make('warn'),
    error: make('error'),
    child: () => log,
  };
  return { log: log as unknown as Log, records };
}

/** Writes plugin modules: name → body of `start`, a function of (options, host) that returns the work. */
export async function writePlugins(dir: string, bodies: Readonly<Record<string, string>>): Promise<void> {
  await mkdir(dir, { recursive: true });
  // Files outside the project have no package.json to say so: .mjs is a module everywhere.
  for (const [name, body] of Object.entries(bodies)) {
    await writeFile(
      path.join(dir, `${name}.mjs`),
      `export default { name: '${name}', options: {}, start(options, host) { ${body} } };\n`,
    );
  }
}
