/** How a service of the backend words a failure for the gateway: one table from faults to link statuses. */
import type { ServerHttp2Stream } from 'node:http2';
import { errnoOf, type Fault, isFault } from '../../base/fault.ts';
import { linkHeader, linkStatus } from '../../cluster-protocol/link.ts';
import type { ServiceContext, SessionStream } from './service.ts';

/** `:status` for a failure. */
export function statusOf(error: unknown): number {
  if (!isFault(error)) return errnoOf(error) === 'ENOSPC' ? linkStatus.noSpace : linkStatus.failed;
  switch (error.code) {
    case 'bad-credentials':
      return linkStatus.refused;
    case 'no-such-account':
      return linkStatus.noSuchAccount;
    case 'over-quota':
    case 'message-too-big':
      return linkStatus.overQuota;
    case 'not-owner':
    case 'lease-lost':
      return linkStatus.notOwner;
    case 'busy':
    case 'limit-reached':
    case 'unavailable':
      return linkStatus.busy;
    case 'no-space':
      return linkStatus.noSpace;
    case 'storage-failed':
    case 'storage-damaged':
      return linkStatus.failed;
    default:
      return error.whose === 'client' ? linkStatus.badRequest : linkStatus.failed;
  }
}

/** Members have clocks of their own: the date of an answer is of no use, and formatting it is not free. */
const headersAlone = { endStream: true, sendDate: false };

/** Answers with headers alone and ends the stream; whatever the peer still sends is dropped. */
export function answer(stream: SessionStream, status: number, headers: Record<string, string> = {}): void {
  if (stream.destroyed || stream.headersSent) return;
  stream.respond({ ':status': status, ...headers }, headersAlone);
  stream.resume();
}

/** Answers with a JSON body. */
export function answerJson(
  stream: ServerHttp2Stream,
  status: number,
  body: unknown,
  headers: Record<string, string> = {},
): void {
  if (stream.destroyed || stream.headersSent) return;
  const bytes = Buffer.from(JSON.stringify(body));
  stream.respond({
    ':status': status,
    'content-type': 'application/json',
    'content-length': bytes.length,
    ...headers,
  });
  stream.end(bytes);
  stream.resume();
}

/** Headers that tell the gateway where to ask instead, when the account is not (or no longer) ours. */
export function ownerHint(context: ServiceContext, address: string): Record<string, string> {
  const standing = context.owns(address);
  if (standing.ok) return {};
  return { [linkHeader.owner]: standing.owner, [linkHeader.epoch]: String(standing.epoch) };
}

/** What a log line says of an error: code, words, cause; never a stack for what is not our bug. */
export function factsOf(error: unknown): Record<string, unknown> {
  if (isFault(error)) {
    const fault: Fault = error;
    const cause = fault.cause instanceof Error ? fault.cause.message : undefined;
    return { code: fault.code, error: fault.message, cause, ...fault.detail };
  }
  return { error: error instanceof Error ? (error.stack ?? error.message) : String(error) };
}
