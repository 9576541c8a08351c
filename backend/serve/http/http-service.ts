/**
 * `/http`: one HTTP request of a user, answered by the owner of the account. The
 * gateway has checked its form; the password is checked here, so that login and
 * request are one round trip.
 */
import type { ServerHttp2Stream } from 'node:http2';
import { pipeline } from 'node:stream/promises';
import { isFault } from '../../../base/fault.ts';
import { httpBodyBytesMax, linkHeader, linkStatus } from '../../../cluster-protocol/link.ts';
import type { Account } from '../../accounts/accounts.ts';
import { readBody } from '../admin-service.ts';
import { answer, factsOf, ownerHint, statusOf } from '../answers.ts';
import { checkCredentials } from '../login-service.ts';
import type { Opening, Service, ServiceContext } from '../service.ts';
import { attachmentDisposition, downloadType, openDownload } from './blob-download.ts';
import { EmailIndex } from './email-index.ts';
import { answerRequest, parseRequest } from './jmap-api.ts';
import { JmapRequestError } from './jmap-errors.ts';
import { jmapLimits } from './jmap-limits.ts';
import { accountIdOf, sessionResource, sessionStateOf } from './jmap-session.ts';

const bodyMs = 60_000;

/** API requests at work, by account. */
const working = new Map<string, number>();

export const httpService: Service = async (stream, opening, context) => {
  stream.on('error', () => {});
  const checked = await checkCredentials(opening, context, 'http');
  if (!checked.ok) return answer(stream, checked.status, checked.headers);
  let account: Account;
  try {
    account = await context.accounts.open(opening.account);
  } catch (error) {
    return failed(stream, opening, context, error);
  }
  const leave = (): void => void stream.destroy();
  account.ended.addEventListener('abort', leave, { once: true });
  try {
    await route(stream, opening, context, account);
  } catch (error) {
    if (!stream.destroyed) failed(stream, opening, context, error);
  } finally {
    account.ended.removeEventListener('abort', leave);
    account.release();
  }
};

function failed(stream: ServerHttp2Stream, opening: Opening, context: ServiceContext, error: unknown): void {
  const bug = !isFault(error);
  context.log[bug ? 'error' : 'warn'](
    { trace: opening.trace, account: opening.account, ...factsOf(error) },
    'http request failed',
  );
  if (stream.headersSent) stream.destroy();
  else answer(stream, statusOf(error), ownerHint(context, opening.account));
}

async function route(
  stream: ServerHttp2Stream,
  opening: Opening,
  context: ServiceContext,
  account: Account,
): Promise<void> {
  const method = headerOf(opening, linkHeader.httpMethod);
  const url = new URL(headerOf(opening, linkHeader.httpPath), 'https://owner.invalid');
  const reads = method === 'GET' || method === 'HEAD';
  const path = url.pathname;
  if (reads && (path === '/.well-known/jmap' || path === '/jmap/session')) {
    return send(
      stream,
      200,
      sessionResource(account.address, headerOf(opening, linkHeader.httpAuthority)),
      method,
    );
  }
  if (method === 'POST' && path === '/jmap/api') return await api(stream, opening, context, account);
  const found = /^\/jmap\/download\/([^/]{1,255})\/([^/]{1,255})\/([^/]{1,1024})$/.exec(path);
  if (reads && found?.[1] === accountIdOf(account.address)) {
    const name = decodedName(found[3] as string);
    return await download(stream, account, found[2] as string, name, url.searchParams.get('accept'), method);
  }
  send(stream, 404, { type: 'about:blank', status: 404, detail: 'not found' }, method);
}

async function api(
  stream: ServerHttp2Stream,
  opening: Opening,
  context: ServiceContext,
  account: Account,
): Promise<void> {
  const busy = working.get(account.address) ?? 0;
  try {
    if (busy >= jmapLimits.maxConcurrentRequests) {
      throw new JmapRequestError('limit', 'too many requests at once', 'maxConcurrentRequests', 429);
    }
    working.set(account.address, busy + 1);
    try {
      const request = parseRequest(await readBody(stream, httpBodyBytesMax, bodyMs));
      const log = context.log.child({ trace: opening.trace, account: account.address });
      const jmap = { accountId: accountIdOf(account.address), index: EmailIndex.of(account.store) };
      const answered = await answerRequest(request, jmap, sessionStateOf(account.address), log);
      if (account.ended.aborted) return void stream.destroy();
      send(stream, 200, answered, 'POST');
    } finally {
      const left = (working.get(account.address) ?? 1) - 1;
      if (left > 0) working.set(account.address, left);
      else working.delete(account.address);
    }
  } catch (error) {
    if (!(error instanceof JmapRequestError)) throw error;
    send(stream, error.status, error.problem(), 'POST', 'application/problem+json');
  }
}

async function download(
  stream: ServerHttp2Stream,
  account: Account,
  blob: string,
  name: string,
  accept: string | null,
  method: string,
): Promise<void> {
  const found = await openDownload(blob, EmailIndex.of(account.store));
  if (found === undefined) return send(stream, 404, { type: 'about:blank', status: 404 }, method);
  try {
    stream.respond({
      ':status': linkStatus.accepted,
      [linkHeader.httpStatus]: '200',
      'content-type': downloadType(accept),
      'content-disposition': attachmentDisposition(name),
      // RFC 8620 6: what a blob id names never changes.
      'cache-control': 'private, immutable, max-age=31536000',
      ...(found.size === undefined || method === 'HEAD' ? {} : { 'content-length': String(found.size) }),
    });
    if (method === 'HEAD') {
      found.body.destroy();
      stream.end();
    } else {
      await pipeline(found.body, stream);
    }
  } finally {
    await found.close();
  }
}

function send(
  stream: ServerHttp2Stream,
  status: number,
  body: unknown,
  method: string,
  type = 'application/json',
): void {
  if (stream.destroyed || stream.headersSent) return;
  const bytes = Buffer.from(JSON.stringify(body));
  stream.respond({
    ':status': linkStatus.accepted,
    [linkHeader.httpStatus]: String(status),
    'content-type': type,
    // An answer to HEAD has no body, and HTTP/2 wants the length to be that of what follows.
    ...(method === 'HEAD' ? {} : { 'content-length': String(bytes.length) }),
  });
  stream.end(method === 'HEAD' ? undefined : bytes);
  stream.resume();
}

function headerOf(opening: Opening, name: string): string {
  const value = opening.headers[name];
  return typeof value === 'string' ? value : '';
}

function decodedName(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    return 'download';
  }
}
