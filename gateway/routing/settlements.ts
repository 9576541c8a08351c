/**
 * Tells owners which delivery keys are settled, many at a time: a request for
 * each message cost a tenth of its way. Late by a moment harms nobody, and what
 * is lost is forgotten by age.
 */
import type { Address } from '../../cluster-protocol/ids.ts';
import { linkHeader, settledPerRequestMax } from '../../cluster-protocol/link.ts';
import type { Whereabouts } from './at-owner.ts';
import { groupByOwner } from './deliver.ts';
import { discard, exchange } from './exchange.ts';
import { serviceHeaders } from './headers.ts';

/** Longest a key waits for others. */
const gatherMs = 100;
/** A backend takes 64 KiB of headers; addresses can be long. */
const headerCharsMax = 16 * 1024;
const answerMsMax = 10_000;

export class Settlements {
  readonly #where: Pick<Whereabouts, 'view' | 'links'>;
  #waiting: { readonly key: string; readonly recipient: Address }[] = [];
  #timer: NodeJS.Timeout | undefined;

  constructor(where: Pick<Whereabouts, 'view' | 'links'>) {
    this.#where = where;
  }

  add(key: string, recipients: readonly Address[]): void {
    for (const recipient of recipients) this.#waiting.push({ key, recipient });
    if (this.#waiting.length >= settledPerRequestMax) this.send();
    else this.#timer ??= setTimeout(() => this.send(), gatherMs).unref();
  }

  send(): void {
    clearTimeout(this.#timer);
    this.#timer = undefined;
    const keys = new Map<Address, string[]>();
    for (const { key, recipient } of this.#waiting) {
      const known = keys.get(recipient);
      if (known) known.push(key);
      else keys.set(recipient, [key]);
    }
    this.#waiting = [];
    for (const { link, epoch, recipients } of groupByOwner(this.#where, [...keys.keys()], new Map())) {
      let words: string[] = [];
      let chars = 0;
      const request = (): void => {
        const headers = { ...serviceHeaders('settle', epoch), [linkHeader.settled]: words.join(',') };
        words = [];
        chars = 0;
        exchange(link, headers, undefined, answerMsMax).then(
          (answer) => discard(answer.stream),
          () => {},
        );
      };
      for (const recipient of recipients) {
        const address = encodeURIComponent(recipient);
        for (const key of keys.get(recipient)!) {
          words.push(`${key}=${address}`);
          chars += address.length + 34;
          if (words.length === settledPerRequestMax || chars > headerCharsMax) request();
        }
      }
      if (words.length > 0) request();
    }
  }
}
