/**
 * Finds the next owner of sessions whose stream has ended, and opens them there.
 * A backend that goes leaves thousands behind at once: those whose clients wait
 * come first, and no owner is asked for more than so many at a time.
 */
import type { OutgoingHttpHeaders } from 'node:http2';
import { Fault } from '../../base/fault.ts';
import type { Log } from '../../base/log.ts';
import type { Epoch } from '../../cluster-protocol/ids.ts';
import { linkHeader, linkStatus } from '../../cluster-protocol/link.ts';
import { formatTaking, type NotResumed } from '../../cluster-protocol/resumption.ts';
import type { Metrics } from '../health/metrics.ts';
import { type Attempted, againOf, atOwner, type Whereabouts } from './at-owner.ts';
import type { BackendLink } from './backend-link.ts';
import { type Answer, discard, type OwnerSide, openSession } from './exchange.ts';
import { accountHeader, clientHeaders, serviceHeaders } from './headers.ts';
import type { ResumableStream, Resumer } from './session-stream.ts';

/** Openings of resumed sessions under way at once. */
const openingsMax = 64;
/** From an opening to its answer: the account is opened, and its selected folder read. */
const answerMsMax = 10_000;
/** A pause that is worth a line in the log. */
const longPauseMs = 1000;

export class SessionResumer implements Resumer {
  readonly #where: Whereabouts;
  readonly #log: Log;
  readonly #metrics: Pick<Metrics, 'resumed' | 'notResumed' | 'pauses'> | undefined;
  readonly #waitMs: number;
  readonly #compresses: boolean;
  readonly #goesOn: () => boolean;
  #openings = 0;
  /** Who waits for a turn: clients that wait for an answer, and the others. */
  readonly #urgent: (() => void)[] = [];
  readonly #patient: (() => void)[] = [];

  /** @param waitMs  How long a session may be without an owner. */
  constructor(
    where: Whereabouts,
    options: {
      readonly log: Log;
      readonly metrics: Pick<Metrics, 'resumed' | 'notResumed' | 'pauses'> | undefined;
      readonly waitMs: number;
      /** The clients' side of IMAP sessions can be compressed. */
      readonly compresses: boolean;
      goesOn(): boolean;
    },
  ) {
    this.#where = where;
    this.#log = options.log;
    this.#metrics = options.metrics;
    this.#waitMs = options.waitMs;
    this.#compresses = options.compresses;
    this.#goesOn = options.goesOn;
  }

  resume(stream: ResumableStream): void {
    void this.#resume(stream);
  }

  lost(stream: ResumableStream, reason: NotResumed): void {
    const { session, service, account } = stream.about;
    this.#metrics?.notResumed.inc({ reason });
    this.#log.info(
      { event: 'session-not-resumed', trace: session.id, service, account, reason, end: stream.streamEnd },
      'session not resumed',
    );
  }

  async #resume(stream: ResumableStream): Promise<void> {
    const { account } = stream.about;
    let answer: Answer<OwnerSide> | undefined;
    try {
      answer = await atOwner(
        this.#where,
        account,
        (link, epoch) => this.#attempt(stream, link, epoch),
        this.#waitMs,
        () => !stream.destroyed && this.#goesOn(),
      );
    } catch (error) {
      this.#log.error({ account, error: Fault.from(error).message }, 'session could not be resumed');
    }
    if (answer !== undefined && (stream.destroyed || answer.status !== linkStatus.accepted)) {
      discard(answer.stream);
    }
    if (stream.destroyed) return;
    if (answer === undefined) return stream.giveUp('no-owner');
    if (answer.status !== linkStatus.accepted) return stream.giveUp('refused');
    const how = stream.streamEnd === 'moved' ? 'moved' : 'lost';
    const pausedMs = performance.now() - stream.pausedAtMs;
    this.#metrics?.resumed.inc({ how });
    this.#metrics?.pauses.observe(pausedMs / 1000);
    const level = pausedMs > longPauseMs ? 'info' : 'debug';
    this.#log[level](
      {
        event: 'session-resumed',
        trace: stream.about.session.id,
        service: stream.about.service,
        account,
        how,
        pausedMs: Math.round(pausedMs),
      },
      'session resumed',
    );
    stream.attach(answer.stream);
  }

  async #attempt(
    stream: ResumableStream,
    link: BackendLink,
    epoch: Epoch,
  ): Promise<Attempted<Answer<OwnerSide>>> {
    await this.#turn(stream.waitedFor);
    try {
      if (stream.destroyed) return { kind: 'again', reason: 'broken' };
      const answer = await openSession(link, headersOf(stream, epoch, this.#compresses), answerMsMax);
      return againOf(answer) ?? { kind: 'done', value: answer };
    } catch {
      return { kind: 'again', reason: 'broken' };
    } finally {
      this.#openings--;
      (this.#urgent.shift() ?? this.#patient.shift())?.();
    }
  }

  async #turn(urgent: boolean): Promise<void> {
    while (this.#openings >= openingsMax) {
      await new Promise<void>((resolve) => {
        (urgent ? this.#urgent : this.#patient).push(resolve);
      });
    }
    this.#openings++;
  }
}

function headersOf(stream: ResumableStream, epoch: Epoch, compresses: boolean): OutgoingHttpHeaders {
  const { session, service, account } = stream.about;
  return {
    ...serviceHeaders(service, epoch),
    ...clientHeaders(session),
    ...accountHeader(account),
    [linkHeader.marks]: '1',
    ...(compresses && service === 'imap' ? { [linkHeader.compress]: '1' } : {}),
    [linkHeader.state]: stream.state,
    [linkHeader.taking]: formatTaking(stream.taking),
  };
}
