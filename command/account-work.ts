/** Account work of the command line, done where it belongs: at the backend that owns the account. */
import { randomBytes } from 'node:crypto';
import type { IncomingHttpHeaders } from 'node:http2';
import type { Duplex } from 'node:stream';
import { Fault, type FaultCode, faultCodes } from '../base/fault.ts';
import type { Address, MemberId } from '../cluster-protocol/ids.ts';
import { type AdminRequest, linkHeader, linkStatus } from '../cluster-protocol/link.ts';
import type { Router } from '../gateway/routing/router.ts';

const answerBytesMax = 4 * 1024 * 1024;

/** Asks the owner of the account the request is about. @throws {Fault} what the owner answered, or `no-owner`. */
export async function askOwner(
  router: Router,
  request: AdminRequest & { readonly address: Address },
): Promise<unknown> {
  return readAnswer(await router.request('admin', request.address, headers(), body(request)));
}

/** Asks one backend. */
export async function askMember(router: Router, member: MemberId, request: AdminRequest): Promise<unknown> {
  return readAnswer(await router.requestMember('admin', member, headers(), body(request)));
}

/**
 * One page of the accounts of a domain. Each backend lists what it owns; no backend knows of the others'.
 * @returns The first `countMax` after `after`, sorted, and whether there are more.
 */
export async function listAccounts(
  router: Router,
  domain: string,
  after: string | undefined,
  countMax: number,
): Promise<{ accounts: Address[]; more: boolean }> {
  const pages = await Promise.all(
    router.backends().map(async (member) => {
      const request: AdminRequest = {
        op: 'account-list',
        domain,
        countMax,
        ...(after === undefined ? {} : { after }),
      };
      const answer = (await askMember(router, member, request)) as { accounts?: unknown };
      if (!Array.isArray(answer.accounts)) throw new Fault('peer-protocol', `${member} sent no account list`);
      return answer.accounts.filter((entry): entry is string => typeof entry === 'string');
    }),
  );
  // An account that moves between two answers may be in both.
  const all = [...new Set(pages.flat())].sort();
  return {
    accounts: all.slice(0, countMax),
    more: all.length > countMax || pages.some((page) => page.length >= countMax),
  };
}

/** One page of the aliases of a domain, as `listAccounts`. */
export async function listAliases(
  router: Router,
  domain: string,
  after: string | undefined,
  countMax: number,
): Promise<{ aliases: { address: Address; targets: readonly Address[] }[]; more: boolean }> {
  const pages = await Promise.all(
    router.backends().map(async (member) => {
      const request: AdminRequest = {
        ...{ op: 'alias-list', domain, countMax },
        ...(after === undefined ? {} : { after }),
      };
      const { aliases } = (await askMember(router, member, request)) as {
        aliases: { address: Address; targets: readonly Address[] }[];
      };
      return aliases;
    }),
  );
  const all = new Map(pages.flat().map((alias) => [alias.address, alias]));
  const sorted = [...all.values()].sort((a, b) => (a.address < b.address ? -1 : 1));
  return {
    aliases: sorted.slice(0, countMax),
    more: sorted.length > countMax || pages.some((page) => page.length >= countMax),
  };
}

const body = (request: AdminRequest): Buffer => Buffer.from(JSON.stringify(request));
const headers = () => ({ [linkHeader.trace]: randomBytes(8).toString('hex') });

async function readAnswer(answer: {
  status: number;
  headers: IncomingHttpHeaders;
  stream: Duplex;
}): Promise<unknown> {
  const chunks: Buffer[] = [];
  let bytes = 0;
  for await (const chunk of answer.stream as AsyncIterable<Buffer>) {
    bytes += chunk.length;
    if (bytes > answerBytesMax) {
      answer.stream.destroy();
      throw new Fault('peer-protocol', 'the answer of the backend is too long');
    }
    chunks.push(chunk);
  }
  let value: unknown;
  try {
    value = JSON.parse(Buffer.concat(chunks).toString('utf8'));
  } catch (cause) {
    throw new Fault('peer-protocol', 'the backend sent no JSON', { cause });
  }
  const { error, message } = value as { error?: unknown; message?: unknown };
  // Long work is answered with 200 before it is known how it ends.
  if (answer.status === linkStatus.accepted && typeof error !== 'string') return value;
  const code = typeof error === 'string' && error in faultCodes ? (error as FaultCode) : 'unavailable';
  throw new Fault(code, typeof message === 'string' ? message : `the backend answered ${answer.status}`);
}
