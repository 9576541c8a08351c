/** A real HTTP door on a loopback port, with TLS, and a chain and router that do as a test says. */
import { execFileSync } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import type { IncomingHttpHeaders, OutgoingHttpHeaders } from 'node:http2';
import net from 'node:net';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { type Duplex, PassThrough, type Readable } from 'node:stream';
import tls from 'node:tls';
import { silentLog } from '../../../base/log.ts';
import { type HttpDoor, openHttpDoor } from '../../../gateway/http/http-door.ts';
import type { HttpLimits } from '../../../gateway/http/http-limits.ts';
import { Deadlines } from '../../../gateway/net/deadline.ts';
import { openTlsContexts } from '../../../gateway/net/tls-contexts.ts';
import type { Chain, ChainVerdict } from '../../../gateway/plugin-host/chain.ts';
import type { OwnerStream, Router } from '../../../gateway/routing/router.ts';
import type { MutableSession } from '../../../gateway/session/session.ts';

const folder = mkdtempSync(path.join(tmpdir(), 'postern-http-'));
const certificate = path.join(folder, 'cert.pem');
const key = path.join(folder, 'key.pem');
execFileSync(
  'openssl',
  // biome-ignore format: one command line
  ['req', '-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes', '-days', '2', '-subj', '/CN=localhost', '-keyout', key, '-out', certificate],
  { stdio: 'ignore' },
);
const deadlines = new Deadlines(50);
const contexts = await openTlsContexts({
  certificate,
  key,
  place: 'test',
  minimum: 'TLSv1.2',
  handshakeMs: 3000,
  deadlines,
});
rmSync(folder, { recursive: true });

export interface Seen {
  account: string;
  headers: OutgoingHttpHeaders;
  body: Buffer | undefined;
}

export interface Rig {
  readonly port: number;
  readonly door: HttpDoor;
  /** What reached the router. */
  readonly seen: Seen[];
  /** Reports of the chain: name, and the user or account. */
  readonly told: string[];
  verdicts: Partial<Record<'connect' | 'login', ChainVerdict>>;
  /** The owner's answer; by default 200 with "hello". */
  owner: (seen: Seen) => Promise<{ status: number; headers: IncomingHttpHeaders; body: Readable }>;
  close(): Promise<void>;
}

export async function openRig(
  options: { greetingMs?: number; limits?: Partial<HttpLimits> } = {},
): Promise<Rig> {
  const seen: Seen[] = [];
  const told: string[] = [];
  const chain = {
    ask: async (question: 'connect' | 'login') =>
      rig.verdicts[question] ?? { word: 'pass', plugin: undefined },
    tell: (report: string, session: MutableSession, attempt?: { user: string }) =>
      void told.push([report, attempt?.user ?? session.account].filter(Boolean).join(' ')),
    wants: () => true,
    close: async () => {},
  } as unknown as Chain;
  const router = {
    isLocalDomain: (domain: string) => domain === 'postern.test',
    async request(
      _service: string,
      account: string,
      headers: OutgoingHttpHeaders,
      body?: Duplex | Buffer,
    ): Promise<OwnerStream> {
      const chunks: Buffer[] = [];
      if (Buffer.isBuffer(body)) chunks.push(body);
      else if (body !== undefined) for await (const chunk of body) chunks.push(chunk as Buffer);
      const request = { account, headers, body: body === undefined ? undefined : Buffer.concat(chunks) };
      seen.push(request);
      const answer = await rig.owner(request);
      return { status: answer.status, headers: answer.headers, stream: answer.body as Duplex };
    },
  } as unknown as Router;
  const door = openHttpDoor({
    chain,
    router,
    log: silentLog,
    greetingMs: options.greetingMs ?? 5000,
    startTls: contexts.startTls,
    ...(options.limits === undefined ? {} : { limits: options.limits }),
  });
  let number = 0;
  const listener = net.createServer((socket) => {
    number += 1;
    door.accept(socket, {
      id: `t${number}`,
      protocol: 'http',
      client: { address: '192.0.2.7', port: 4711, network: '192.0.2.7', wideNetwork: '192.0.2.0/24' },
      listener: '127.0.0.1:0',
      startedAtMs: Date.now(),
      tls: undefined,
      greeting: undefined,
      account: undefined,
    });
  });
  await new Promise<void>((resolve) => listener.listen(0, '127.0.0.1', resolve));
  const rig: Rig = {
    port: (listener.address() as net.AddressInfo).port,
    door,
    seen,
    told,
    verdicts: {},
    owner: async () => ({
      status: 200,
      headers: { 'postern-status': '200', 'content-type': 'text/plain' },
      body: bodyOf('hello'),
    }),
    async close() {
      await door.close(0);
      await new Promise((resolve) => listener.close(resolve));
    },
  };
  return rig;
}

/** A stream like an owner's answer. */
export function bodyOf(text: string | Buffer): PassThrough {
  const stream = new PassThrough();
  stream.end(text);
  return stream;
}

/** Sends bytes over TLS with these ALPN names and returns all that came back until the close, or until `ms`. */
export async function talk(
  port: number,
  bytes: string | Buffer,
  options: { alpn?: string[]; ms?: number } = {},
): Promise<{ text: string; closed: boolean }> {
  return await new Promise((resolve) => {
    const chunks: Buffer[] = [];
    const socket = tls.connect({
      port,
      host: '127.0.0.1',
      rejectUnauthorized: false,
      ...(options.alpn === undefined ? {} : { ALPNProtocols: options.alpn }),
    });
    const finish = (closed: boolean): void => {
      clearTimeout(timer);
      socket.destroy();
      resolve({ text: Buffer.concat(chunks).toString('latin1'), closed });
    };
    const timer = setTimeout(() => finish(false), options.ms ?? 1500);
    socket.on('secureConnect', () => socket.write(bytes));
    socket.on('data', (chunk) => chunks.push(chunk));
    socket.on('error', () => {});
    socket.on('close', () => finish(true));
  });
}

export const basic = (user: string, password: string): string =>
  `Basic ${Buffer.from(`${user}:${password}`).toString('base64')}`;
