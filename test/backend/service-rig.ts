/** Services of the backend on a bare HTTP/2 server on a Unix socket, over real accounts in a folder of their own. */
import { cp, mkdtemp, rm } from 'node:fs/promises';
import http2, { type ClientHttp2Stream, type IncomingHttpHeaders, type ServerHttp2Stream } from 'node:http2';
import net from 'node:net';
import { tmpdir } from 'node:os';
import path from 'node:path';
import type { Accounts } from '../../backend/accounts/accounts.ts';
import { openAccounts } from '../../backend/accounts/local-accounts.ts';
import { adminService } from '../../backend/serve/admin-service.ts';
import {
  deliverService,
  recipientService,
  settleService,
} from '../../backend/serve/deliver/deliver-service.ts';
import { httpService } from '../../backend/serve/http/http-service.ts';
import { loginService } from '../../backend/serve/login-service.ts';
import { pop3Service } from '../../backend/serve/pop3/pop3-service.ts';
import type { Opening, Service, ServiceContext } from '../../backend/serve/service.ts';
import { type BackendSettings, backendSettings } from '../../backend/settings.ts';
import { silentLog } from '../../base/log.ts';
import { defaultsOf } from '../../base/settings.ts';
import { type Credentials, linkHeader } from '../../cluster-protocol/link.ts';

const services: Record<string, Service> = {
  '/deliver': deliverService,
  '/settle': settleService,
  '/recipient': recipientService,
  '/pop3': pop3Service,
  '/http': httpService,
  '/login': loginService,
  '/admin': adminService,
};

export const password = 'correct horse';

const roots = new Map<string, Promise<string>>();

/** A storage root with these accounts, made once per test file: hashing passwords is slow on purpose. */
function rootWith(addresses: readonly string[]): Promise<string> {
  const name = addresses.join();
  const known = roots.get(name) ?? makeRoot(addresses);
  roots.set(name, known);
  return known;
}

async function makeRoot(addresses: readonly string[]): Promise<string> {
  const root = await mkdtemp(path.join(tmpdir(), 'postern-root-'));
  const accounts = await openAccounts({
    root,
    settings: defaultsOf(backendSettings),
    log: silentLog,
    guardFor: () => ({ epoch: 1, assert() {} }),
    owns: () => true,
  });
  for (const address of addresses) await accounts.add(address, password);
  await accounts.close();
  return root;
}

/** Call after the last test of a file. */
export async function removeRoots(): Promise<void> {
  for (const root of roots.values()) await rm(await root, { recursive: true, force: true });
}

export interface Answer {
  readonly status: number;
  readonly headers: IncomingHttpHeaders;
  readonly body: Buffer;
}

export interface ServiceRig {
  readonly accounts: Accounts;
  /** Addresses that another backend owns. */
  readonly elsewhere: Set<string>;
  /** What was logged: facts and text. */
  readonly logged: (Record<string, unknown> & { text: string })[];
  /** Opens a stream; the caller writes and ends it. */
  open(service: string, headers: Record<string, string>): ClientHttp2Stream;
  /** A whole request. */
  ask(service: string, headers: Record<string, string>, body?: string | Buffer): Promise<Answer>;
  /** What an INBOX holds. */
  inbox(address: string): Promise<Buffer[]>;
  close(): Promise<void>;
}

export async function openServiceRig(
  options: {
    addresses?: readonly string[];
    settings?: Partial<BackendSettings>;
    accounts?: (real: Accounts) => Accounts;
  } = {},
): Promise<ServiceRig> {
  const folder = await mkdtemp(path.join(tmpdir(), 'postern-serve-'));
  const settings = { ...defaultsOf(backendSettings), ...options.settings };
  const elsewhere = new Set<string>();
  await cp(await rootWith(options.addresses ?? ['ann@postern.test']), path.join(folder, 'root'), {
    recursive: true,
  });
  const real = await openAccounts({
    root: path.join(folder, 'root'),
    settings,
    log: silentLog,
    guardFor: () => ({ epoch: 1, assert() {} }),
    owns: (address) => !elsewhere.has(address),
  });
  const accounts = options.accounts?.(real) ?? real;
  const logged: ServiceRig['logged'] = [];
  const note = (facts: Record<string, unknown>, text: string): void => void logged.push({ ...facts, text });
  const log = {
    debug: note,
    info: note,
    warn: note,
    error: note,
    child: () => log,
  } as unknown as ServiceContext['log'];
  const context: ServiceContext = {
    accounts,
    log,
    settings,
    owns: (address) =>
      elsewhere.has(address) ? { ok: false, owner: 'backend-2', epoch: 7 } : { ok: true, epoch: 1 },
  };
  const server = http2.createServer();
  const sessions = new Set<http2.ServerHttp2Session>();
  server.on('session', (session) => {
    sessions.add(session);
    session.on('error', () => {});
    session.once('close', () => sessions.delete(session));
  });
  server.on('stream', (stream: ServerHttp2Stream, headers: IncomingHttpHeaders) => {
    const service = services[String((headers as Record<string, unknown>)[':path'])] as Service;
    service(stream, openingOf(headers), context).catch((error: unknown) => {
      note({ error: String(error) }, 'service rejected');
      stream.destroy();
    });
  });
  const socket = path.join(folder, 'link.sock');
  await new Promise<void>((resolve) => server.listen(socket, resolve));
  const client = http2.connect('http://backend', { createConnection: () => connectTo(socket) });
  client.on('error', () => {});
  const open: ServiceRig['open'] = (service, headers) => {
    const stream = client.request({ ':method': 'POST', ':path': `/${service}`, ...headers });
    stream.on('error', () => {});
    return stream;
  };
  return {
    accounts,
    elsewhere,
    logged,
    open,
    async ask(service, headers, body) {
      const stream = open(service, headers);
      stream.end(body);
      return await answerOf(stream);
    },
    async inbox(address) {
      const account = await real.open(address);
      const inbox = await account.store.folder('INBOX');
      const messages: Buffer[] = [];
      for (const uid of inbox.uids()) {
        const message = await inbox.open(uid);
        messages.push(await message.read(0, message.size));
        await message.close();
      }
      account.release();
      return messages;
    },
    async close() {
      client.destroy();
      for (const session of sessions) session.destroy();
      await new Promise((resolve) => server.close(resolve));
      await real.close();
      await rm(folder, { recursive: true, force: true });
    },
  };
}

/** The answer to a stream whose request is on its way; rejects when it is reset. */
export async function answerOf(stream: ClientHttp2Stream): Promise<Answer> {
  return await new Promise((resolve, reject) => {
    let headers: IncomingHttpHeaders & { ':status'?: number | undefined } = {};
    const chunks: Buffer[] = [];
    stream.on('response', (received) => {
      headers = received;
    });
    stream.on('data', (chunk: Buffer) => chunks.push(chunk));
    stream.on('end', () => {
      // A stream reset before its answer ends as well.
      const status = headers[':status'];
      if (status !== undefined && !stream.aborted) resolve({ status, headers, body: Buffer.concat(chunks) });
    });
    stream.on('close', () => reject(new Error(`reset ${stream.rstCode}`)));
  });
}

export function credentialsOf(user: string, secret = password): string {
  const credentials: Credentials = { mechanism: 'password', user, password: secret };
  return Buffer.from(JSON.stringify(credentials)).toString('base64');
}

function openingOf(headers: IncomingHttpHeaders): Opening {
  const text = headers[linkHeader.credentials];
  return {
    account: decodeURIComponent(String(headers[linkHeader.account] ?? '')),
    epoch: 1,
    client: { address: '192.0.2.7', port: 4711 },
    tls: 'TLSv1.3 TLS_AES_256_GCM_SHA384',
    trace: 'trace1',
    credentials: typeof text === 'string' ? JSON.parse(Buffer.from(text, 'base64').toString()) : undefined,
    headers,
  };
}

function connectTo(socket: string): net.Socket {
  return net.connect(socket);
}
