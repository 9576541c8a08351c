/** A message from 354 to its reply: what receives it, where it lies, what becomes of it. */
import type { MutableSession } from '../session/session.ts';
import { DataReceiver } from './data-receiver.ts';
import type { DoorShared } from './door-shared.ts';
import { MailDelivery } from './mail-delivery.ts';
import type { Reply } from './reply.ts';
import type { Mail } from './smtp-commands.ts';
import { Spool } from './spool.ts';
import { stuffDots } from './stuff-dots.ts';

export interface IntakeFacts {
  readonly door: DoorShared;
  readonly session: MutableSession;
  readonly mail: Mail;
  /** Of the messages on this connection. */
  readonly number: number;
  readonly extended: boolean;
  /** The spool cannot keep up: read no more until `resume`. */
  pause(): void;
  resume(): void;
}

export class MessageIntake {
  readonly delivery: MailDelivery;
  readonly #receiver: DataReceiver;
  readonly #spool: Spool;

  constructor(facts: IntakeFacts) {
    const { door, session, mail, extended } = facts;
    const { settings, spools } = door;
    const spool = new Spool(spools, `${mail.from}\0`, facts.resume);
    this.#spool = spool;
    this.delivery = new MailDelivery({
      ...{ door, session, extended, spool },
      id: `${session.id}.${facts.number}`,
      from: mail.from,
      recipients: [...mail.recipients],
    });
    this.#receiver = new DataReceiver(
      {
        messageBytesMax: settings['smtp.message_size_max'],
        lineBytesMax: settings['smtp.line_bytes_max'],
        headerLinesMax: settings['smtp.header_lines_max'],
        headerBytesMax: settings['smtp.header_bytes_max'],
        receivedMax: settings['smtp.received_max'],
      },
      (slice) => {
        if (!spool.write(slice)) facts.pause();
      },
    );
  }

  get failure(): Reply | undefined {
    return this.#receiver.failure;
  }

  /** @returns As `DataReceiver.push`: bytes used once the final dot has come, else −1. */
  push(bytes: Buffer): number {
    const used = this.#receiver.push(bytes);
    const { failure, header } = this.#receiver;
    if (failure !== undefined) this.delivery.refuse(failure);
    else if (header !== undefined) this.delivery.headerCame(header);
    if (used !== -1) this.delivery.received(header ?? Buffer.alloc(0));
    return used;
  }

  /** The whole message as it came over the wire, dot-stuffed, without the final dot: what Haraka's plugins read. */
  async *asSent(): AsyncGenerator<Buffer> {
    await this.#spool.complete();
    let lineStart = true;
    for await (const chunk of this.#spool.chunks()) {
      yield* stuffDots(chunk, lineStart);
      lineStart = chunk.at(-1) === 0x0a;
    }
  }
}
