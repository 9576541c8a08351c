/** The router at work: a view of the cluster, links to its backends, and requests that find their owner. */
import type { OutgoingHttpHeaders } from 'node:http2';
import { Fault } from '../../base/fault.ts';
import type { Log } from '../../base/log.ts';
import type { Address, MemberId } from '../../cluster-protocol/ids.ts';
import { type Credentials, linkHeader, linkStatus } from '../../cluster-protocol/link.ts';
import type { Registry } from '../../cluster-protocol/registry.ts';
import type { Metrics } from '../health/metrics.ts';
import type { Session } from '../session/session.ts';
import { type Attempted, againOf, atOwner, ownerWaitMsMax, type Whereabouts } from './at-owner.ts';
import { BackendLink, type LinkIdentity, type SocketBudget } from './backend-link.ts';
import { ClusterView } from './cluster-view.ts';
import { deliver } from './deliver.ts';
import { type Answer, discard, exchange, type OwnerSide, openSession } from './exchange.ts';
import {
  accountHeader,
  aliasTargets,
  clientHeaders,
  credentialHeaders,
  scramRecordOf,
  serviceHeaders,
} from './headers.ts';
import type { Router } from './router.ts';
import { SessionResumer } from './session-resumer.ts';
import {
  forgetSentHeaders,
  type ResumableSession,
  ResumableStream,
  type SessionStream,
} from './session-stream.ts';
import { Settlements } from './settlements.ts';

/** From the end of a request to the head of its answer; a login includes a slow hash behind a queue of others. */
const answerMsMax = 10_000;
/** The same for HTTP and account work, which may search. */
const requestAnswerMsMax = 60_000;

export interface RouterOptions {
  readonly registry: Registry;
  readonly log: Log;
  readonly metrics?: Metrics;
  /** Descriptors to spare for sockets of sessions, all backends together; none unless told. */
  readonly sessionSocketsMax?: number;
  /** For backends on other machines. */
  readonly linkIdentity?: LinkIdentity | undefined;
  /** How long an account may be without a reachable owner; 10 s unless told. */
  readonly ownerWaitMs?: number;
  /** How long a session may be without an owner; 30 s unless told. */
  readonly resumeWaitMs?: number;
  /** `imap.compress`; not unless told. */
  readonly compresses?: boolean;
}

const resumeWaitMsMax = 30_000;

/** Opens at once; `ready()` resolves when it can reach an owner. */
export async function openRouter(options: RouterOptions): Promise<Router> {
  const { log, metrics } = options;
  const waitMs = options.ownerWaitMs ?? ownerWaitMsMax;
  const compresses = options.compresses ?? false;
  const stop = new AbortController();
  const view = new ClusterView(log);
  const links = new Map<MemberId, BackendLink>();
  const where: Whereabouts = { view, links, metrics };
  const settlements = new Settlements(where);
  const socketBudget: SocketBudget = { left: options.sessionSocketsMax ?? 0 };
  const resumer = new SessionResumer(where, {
    log,
    metrics,
    waitMs: options.resumeWaitMs ?? resumeWaitMsMax,
    compresses,
    goesOn: () => !stop.signal.aborted,
  });
  const changed = (): void => {
    let up = 0;
    for (const link of links.values()) up += link.upCount;
    metrics?.links.set(up);
    view.changed();
  };
  view.onBackend = (id, record) => {
    links.get(id)?.retire();
    links.delete(id);
    if (record !== undefined)
      links.set(
        id,
        new BackendLink(record, { ...{ log, changed, socketBudget }, linkIdentity: options.linkIdentity }),
      );
  };
  const identity = options.linkIdentity;
  identity?.onMachines(() => {
    for (const [id, link] of links) {
      const { machine } = link.record;
      if (machine === undefined || identity.hasMachine(machine)) continue;
      // Its backends come again with new records when it joins again.
      link.destroy();
      links.delete(id);
    }
    changed();
  });
  view.watch(options.registry, stop.signal);

  /** One request about an account; `read` makes the outcome of any answer that is not "again". */
  const ask = <T, Stream extends OwnerSide>(
    account: Address,
    headers: (epoch: number) => OutgoingHttpHeaders,
    send: (link: BackendLink, headers: OutgoingHttpHeaders, waitMs: number) => Promise<Answer<Stream>>,
    read: (answer: Answer<Stream>) => T,
  ): Promise<T | undefined> =>
    atOwner(
      where,
      account,
      async (link, epoch): Promise<Attempted<T>> => {
        try {
          const answer = await send(link, headers(epoch), answerMsMax);
          return againOf(answer) ?? { kind: 'done', value: read(answer) };
        } catch (error) {
          log.debug({ backend: link.record.id, error: Fault.from(error).message }, 'request broke');
          return { kind: 'again', reason: 'broken' };
        }
      },
      waitMs,
      () => !stop.signal.aborted,
    );

  return {
    isLocalDomain: (domain) => view.isLocalDomain(domain),

    async recipient(session, address, sizeBytes) {
      const headers = (epoch: number): OutgoingHttpHeaders => ({
        ...serviceHeaders('recipient', epoch),
        ...clientHeaders(session),
        ...accountHeader(address),
        [linkHeader.size]: String(sizeBytes),
      });
      const answer = await ask(address, headers, sendRequest, headOf);
      const status = answer?.status;
      if (answer?.status === linkStatus.accepted) return aliasTargets(answer.headers) ?? 'yes';
      if (status === linkStatus.noSuchAccount) return 'no-such-account';
      if (status === linkStatus.overQuota) return 'over-quota';
      return 'unavailable';
    },

    async login(session, credentials) {
      const headers = (epoch: number): OutgoingHttpHeaders =>
        loginHeaders('login', epoch, session, credentials);
      const status = await ask(credentials.user, headers, sendRequest, statusOf);
      if (status === linkStatus.accepted) return 'yes';
      return status === linkStatus.refused ? 'no' : 'unavailable';
    },

    async scramStart(session, user) {
      const headers = (epoch: number): OutgoingHttpHeaders => ({
        ...serviceHeaders('login', epoch),
        ...clientHeaders(session),
        ...accountHeader(user),
        [linkHeader.scramStart]: '1',
      });
      const answer = await ask(user, headers, sendRequest, headOf);
      return (answer?.status === linkStatus.accepted && scramRecordOf(answer.headers)) || 'unavailable';
    },

    async scramProof(session, credentials) {
      const headers = (epoch: number): OutgoingHttpHeaders =>
        loginHeaders('login', epoch, session, credentials);
      const answer = await ask(credentials.user, headers, sendRequest, headOf);
      if (answer?.status === linkStatus.refused) return 'no';
      const signature = answer?.headers[linkHeader.scramSignature];
      if (answer?.status !== linkStatus.accepted || typeof signature !== 'string') return 'unavailable';
      return { signature };
    },

    async openSession(session, service, credentials) {
      const headers = (epoch: number): OutgoingHttpHeaders => ({
        ...loginHeaders(service, epoch, session, credentials),
        [linkHeader.marks]: '1',
        ...(compresses && service === 'imap' ? { [linkHeader.compress]: '1' } : {}),
      });
      const answer = await ask(credentials.user, headers, openSession, (opened) => opened);
      if (answer === undefined) return { outcome: 'unavailable' };
      const reason = answer.headers[linkHeader.reason];
      if (answer.status === linkStatus.accepted) {
        const capability = answer.headers[linkHeader.capability];
        return {
          outcome: 'accepted',
          stream: sessionStream(answer, { session, service, account: credentials.user }, resumer),
          capability: typeof capability === 'string' ? capability : '',
        };
      }
      discard(answer.stream);
      if (answer.status === linkStatus.refused || answer.status === linkStatus.busy)
        return { outcome: 'refused', reason: typeof reason === 'string' ? reason : 'credentials' };
      log.warn({ trace: session.id, service, status: answer.status }, 'session was not opened');
      return { outcome: 'unavailable' };
    },

    deliver: (session, delivery) => deliver(where, session, delivery, waitMs),

    settle: (deliveryKey, recipients) => settlements.add(deliveryKey, recipients),

    async request(service, account, headers, body) {
      let sent = false;
      const answer = await atOwner(
        where,
        account,
        async (link, epoch): Promise<Attempted<Answer>> => {
          // A stream can be read only once, so only its first attempt counts.
          if (sent && body !== undefined && !Buffer.isBuffer(body))
            throw new Fault('unavailable', 'the owner has moved in mid-request');
          sent = true;
          try {
            const all = { ...serviceHeaders(service, epoch), ...accountHeader(account), ...headers };
            const head = await exchange(link, all, body, requestAnswerMsMax);
            return againOf(head) ?? { kind: 'done', value: head };
          } catch (error) {
            // Whether it was done is not known, so it is not done again.
            throw Fault.from(error, 'unavailable');
          }
        },
        waitMs,
        () => !stop.signal.aborted,
      );
      if (answer === undefined)
        throw new Fault('no-owner', 'the account cannot be reached now, try again later');
      return answer;
    },

    backends: () => [...view.backends.keys()].sort(),

    async requestMember(service, member, headers, body) {
      const link = links.get(member);
      if (link === undefined) throw new Fault('unavailable', `there is no backend ${member} now`);
      return exchange(link, { ...serviceHeaders(service, 0), ...headers }, body, requestAnswerMsMax);
    },

    async ready() {
      while (!stop.signal.aborted) {
        if (view.known && [...links.values()].some((link) => link.upCount > 0)) return;
        await view.nextChange();
      }
      throw new Fault('unavailable', 'the router was closed');
    },

    async close() {
      settlements.send();
      stop.abort();
      for (const link of links.values()) link.destroy();
      links.clear();
      view.changed();
    },
  };
}

/** A backend that does not know marks yet carries the session's bytes unframed. */
function sessionStream(
  answer: Answer<OwnerSide>,
  about: ResumableSession,
  resumer: SessionResumer,
): SessionStream {
  const state = answer.headers[linkHeader.state];
  if (answer.headers[linkHeader.marks] === '1' && typeof state === 'string')
    return new ResumableStream(answer.stream, Buffer.from(state, 'base64'), about, resumer);
  forgetSentHeaders(answer.stream);
  return answer.stream;
}

/** A request without a body. */
function sendRequest(link: BackendLink, headers: OutgoingHttpHeaders, waitMs: number): Promise<Answer> {
  return exchange(link, headers, undefined, waitMs);
}

function statusOf(answer: Answer): number {
  return headOf(answer).status;
}

/** An answer without a body that anybody reads. */
function headOf(answer: Answer): Answer {
  discard(answer.stream);
  return answer;
}

function loginHeaders(
  service: 'login' | 'imap' | 'pop3',
  epoch: number,
  session: Session,
  credentials: Credentials,
): OutgoingHttpHeaders {
  return {
    ...serviceHeaders(service, epoch),
    ...clientHeaders(session),
    ...accountHeader(credentials.user),
    ...credentialHeaders(credentials),
  };
}
