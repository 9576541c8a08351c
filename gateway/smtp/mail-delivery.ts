/**
 * One message after its final dot: the chain's question, the lines on top, the
 * owners' answers, and the one log line that tells how it went. A sender that
 * hangs up in between changes nothing about what is delivered; it only never
 * counts as having seen the 250.
 */
import { isFault } from '../../base/fault.ts';
import type { Address } from '../../cluster-protocol/ids.ts';
import type { ChainVerdict } from '../plugin-host/chain.ts';
import { messageParts } from '../plugin-host/message-parts.ts';
import type { Envelope, FieldMatch, Message, MessageHeader, Question } from '../plugins/api.ts';
import type { MutableSession } from '../session/session.ts';
import { replyForAnswers } from './delivery.ts';
import type { DoorShared } from './door-shared.ts';
import type { HarakaTransaction } from './haraka/types.ts';
import { headerNames, headerValues, withoutFields } from './message-header.ts';
import { type Reply, renderReply, replies, replyFor } from './reply.ts';
import type { Spool } from './spool.ts';
import { traceHeader } from './trace-header.ts';

export interface DeliveryFacts {
  readonly door: Pick<DoorShared, 'chain' | 'router' | 'log' | 'hostname'>;
  readonly session: MutableSession;
  /** Stands in the Received line and the log. */
  readonly id: string;
  readonly from: string;
  readonly recipients: readonly Address[];
  readonly extended: boolean;
  readonly spool: Spool;
}

export class MailDelivery {
  readonly #facts: DeliveryFacts;
  readonly #startedAtMs = performance.now();
  #failure: Reply | undefined;
  #header: Buffer = Buffer.alloc(0);
  #headerVerdict: Promise<ChainVerdict> | undefined;
  #fields: [name: string, value: string][] = [];
  readonly #dropFields: FieldMatch[] = [];
  #quarantine = false;
  #key = '';
  #plugin: string | undefined;
  #score = 0;
  #pluginLog: string | undefined;
  #busy = false;
  #abandoned = false;
  #finished = false;
  #stored = false;
  #size = 0;

  constructor(facts: DeliveryFacts) {
    this.#facts = facts;
  }

  /** Nothing of the message is kept from here on. */
  refuse(reply: Reply): void {
    if (this.#failure !== undefined) return;
    this.#failure = reply;
    this.#size = this.#facts.spool.size;
    this.#facts.spool.drop();
  }

  /** The header has come, the rest is on its way: the chain may judge it meanwhile. */
  headerCame(header: Buffer): void {
    const { chain } = this.#facts.door;
    if (this.#headerVerdict !== undefined || !chain.wants('header')) return;
    const verdict = chain.ask('header', this.#facts.session, this.#headerView(header));
    this.#headerVerdict = verdict;
    // Nothing need be kept of what is refused already; the client is told after its final dot.
    void verdict.then((judged) => {
      const refusal = replyFor('header', judged);
      if (refusal !== undefined && !this.#busy && !this.#finished) this.#judge('header', judged);
    });
  }

  received(header: Buffer): void {
    this.#header = header;
    this.headerCame(header);
    if (this.#failure === undefined) this.#size = this.#facts.spool.size;
  }

  /** Header fields Haraka's plugins add go on top with the chain's; the message itself stays as it came. */
  collectFields(transaction: HarakaTransaction): void {
    const { add_header, add_leading_header, remove_header } = transaction;
    const add = (name: string, value: string) => {
      if (this.#fields.length < 100) this.#fields.push([String(name), String(value)]);
    };
    transaction.add_header = function collected(name, value) {
      add(name, value);
      add_header.call(this, name, value);
    };
    transaction.add_leading_header = function collected(name, value) {
      add(name, value);
      add_leading_header.call(this, name, value);
    };
    const forget = (name: string) => {
      this.#fields = this.#fields.filter(([added]) => added.toLowerCase() !== String(name).toLowerCase());
    };
    transaction.remove_header = function collected(name) {
      forget(name);
      remove_header.call(this, name);
    };
  }

  /** Asks the chain, then the owners. Never rejects. */
  async deliver(): Promise<Reply> {
    if (this.#failure !== undefined) return this.#failure;
    this.#busy = true;
    let reply: Reply;
    try {
      reply = await this.#deliver();
    } catch (error) {
      this.#facts.door.log.error(
        { trace: this.#facts.session.id, message: this.#facts.id, err: error },
        'delivery failed',
      );
      reply = isFault(error, 'no-space') ? replies.noSpace : replies.unavailable;
    }
    this.#busy = false;
    if (this.#abandoned) this.finish(reply);
    return reply;
  }

  async #deliver(): Promise<Reply> {
    const { door, session, id, from, recipients, extended, spool } = this.#facts;
    const headerVerdict = await this.#headerVerdict;
    if (headerVerdict !== undefined) {
      const refusal = this.#judge('header', headerVerdict);
      if (refusal !== undefined) return refusal;
    }
    await spool.complete();
    this.#key = spool.deliveryKey();
    const envelope: Envelope = { from, to: recipients };
    const size = spool.size;
    if (door.chain.wants('message')) {
      let parts: ReturnType<Message['parts']> | undefined;
      const message: Message = {
        ...this.#headerView(this.#header),
        size,
        parts: () => {
          parts ??= messageParts(spool);
          return parts;
        },
        stream: () => spool.stream(),
      };
      const refusal = this.#judge('message', await door.chain.ask('message', session, message));
      if (refusal !== undefined) return refusal;
    }
    const top = traceHeader({
      session,
      reversePath: from,
      hostname: door.hostname,
      id,
      extended,
      at: new Date(),
      fields: this.#fields,
    });
    const header = withoutFields(this.#header, this.#dropFields);
    const changed = header !== this.#header;
    const skipBytes = changed ? this.#header.length : 0;
    const head = changed ? Buffer.concat([top, header]) : top;
    const answers = await door.router.deliver(session, {
      recipients,
      reversePath: from,
      size: head.length + size - skipBytes,
      deliveryKey: this.#key,
      ...(this.#quarantine ? { fileInto: 'junk' } : {}),
      body: () => bodyOf(head, spool, skipBytes),
    });
    const reply = replyForAnswers(answers, recipients.length);
    for (const answer of answers) {
      if (answer.outcome === 'stored' || answer.outcome === 'already') continue;
      door.log.warn(
        {
          trace: session.id,
          message: id,
          recipient: answer.recipient,
          outcome: answer.outcome,
          detail: answer.detail,
        },
        'recipient not stored',
      );
    }
    if (reply === replies.ok) {
      this.#stored = true;
      door.chain.tell('delivered', session, envelope, size);
      return { code: 250, text: `2.0.0 OK ${id}` };
    }
    return reply;
  }

  #headerView(header: Buffer): MessageHeader {
    const { from, recipients } = this.#facts;
    return {
      envelope: { from, to: recipients },
      header: (name) => headerValues(header, name),
      names: () => headerNames(header),
    };
  }

  /** Keeps what a verdict says of the message. @returns the reply that refuses it, if it does. */
  #judge(question: Question, verdict: ChainVerdict): Reply | undefined {
    const refusal = replyFor(question, verdict);
    if (refusal !== undefined || verdict.plugin !== undefined) {
      this.#plugin = verdict.plugin;
      this.#pluginLog = verdict.log;
    }
    this.#score += verdict.score ?? 0;
    if (refusal !== undefined) {
      this.refuse(refusal);
      return refusal;
    }
    this.#fields.push(...(verdict.headers ?? []).map(([name, value]): [string, string] => [name, value]));
    this.#dropFields.push(...(verdict.dropFields ?? []));
    this.#quarantine ||= verdict.quarantine === true;
    return undefined;
  }

  /** The client is gone. What the owners are being given goes on. */
  abandon(): void {
    this.#abandoned = true;
    if (!this.#busy) this.finish(undefined);
  }

  /**
   * Writes the log line and gives the spool back; once.
   * @param reply  What the client got; `undefined` when it left before.
   * @returns What to settle when the client shows that it has seen the 250; `undefined` when there is nothing.
   */
  finish(reply: Reply | string | undefined): { key: string; recipients: readonly Address[] } | undefined {
    if (this.#finished) return undefined;
    this.#finished = true;
    this.#facts.spool.drop();
    const { door, session, id, from, recipients } = this.#facts;
    const text = (typeof reply === 'object' ? renderReply(reply) : (reply ?? 'client gone')).trimEnd();
    const accepted = this.#stored && text.startsWith('250');
    door.log.info(
      {
        trace: session.id,
        message: id,
        client: session.client.address,
        account: session.account,
        from,
        to: recipients.length,
        rcpt: recipients[0],
        size: this.#size,
        outcome: this.#stored
          ? 'stored'
          : text.startsWith('5')
            ? 'refused'
            : text.startsWith('4')
              ? 'deferred'
              : 'lost',
        reply: this.#abandoned && reply !== undefined ? `client gone, not told: ${text}` : text,
        plugin: this.#plugin,
        reason: this.#pluginLog,
        score: this.#score,
        key: this.#key,
        ms: Math.round(performance.now() - this.#startedAtMs),
      },
      'smtp message',
    );
    return accepted && !this.#abandoned ? { key: this.#key, recipients } : undefined;
  }
}

/** @param skipBytes  How much of the spool's beginning `head` stands for. */
function bodyOf(head: Buffer, spool: Spool, skipBytes: number): AsyncIterable<Buffer> | Iterable<Buffer> {
  const chunks = spool.chunks();
  if (Symbol.iterator in chunks) return [head, ...skipped(chunks, skipBytes)];
  return prepended(head, chunks, skipBytes);
}

function* skipped(chunks: Iterable<Buffer>, skipBytes: number): Generator<Buffer> {
  let left = skipBytes;
  for (const chunk of chunks) {
    if (chunk.length > left) yield left === 0 ? chunk : chunk.subarray(left);
    left = Math.max(0, left - chunk.length);
  }
}

async function* prepended(
  head: Buffer,
  chunks: AsyncIterable<Buffer>,
  skipBytes: number,
): AsyncGenerator<Buffer> {
  yield head;
  let left = skipBytes;
  for await (const chunk of chunks) {
    yield* skipped([chunk], left);
    left = Math.max(0, left - chunk.length);
  }
}
