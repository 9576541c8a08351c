/**
 * Which etcd member is asked. A member that stands still, or has no leader, takes
 * a connection and answers nothing, and a lease cannot wait for deadlines: what
 * may be asked twice is asked of the next member after a moment, and the first
 * answer counts. All that follows goes to the member that answered.
 */
import { Fault } from '../../base/fault.ts';

/** A healthy etcd answers in milliseconds; its disk may make it a few hundred. */
const nextAfterMs = 500;

export interface EndpointsOptions<Client> {
  readonly clients: readonly Client[];
  /** How long a call may take, in all. */
  readonly deadlineMs: number;
  /** An error that is an answer: no other member would say otherwise. `undefined` when it is none. */
  answerIn(error: unknown): Fault | undefined;
}

export class Endpoints<Client> {
  readonly #options: EndpointsOptions<Client>;
  readonly #leavers = new Map<Client, Set<() => void>>();
  #preferred = 0;

  constructor(options: EndpointsOptions<Client>) {
    this.#options = options;
  }

  get preferred(): Client {
    return this.#options.clients[this.#preferred]!;
  }

  /**
   * Asks for what may be done twice: reads, renewals, a lease that nobody may ever use.
   * @throws {Fault} `registry-failed` when nobody answers in time, or what `answerIn` made.
   */
  ask<T>(call: (client: Client) => Promise<T>): Promise<T> {
    const { clients, deadlineMs } = this.#options;
    return new Promise<T>((resolve, reject) => {
      const first = this.#preferred;
      let asked = 0;
      let waiting = 0;
      let over = false;
      let last: unknown;
      let next: NodeJS.Timeout | undefined;
      const end = (settle: () => void): void => {
        if (over) return;
        over = true;
        clearTimeout(next);
        clearTimeout(late);
        settle();
      };
      const fail = (): void => end(() => reject(failed(last)));
      const late = setTimeout(fail, deadlineMs);
      const askNext = (): void => {
        clearTimeout(next);
        if (over || asked >= clients.length) return;
        const index = (first + asked++) % clients.length;
        waiting++;
        next = setTimeout(askNext, nextAfterMs);
        call(clients[index]!).then(
          (value) => {
            if (over) return;
            if (index !== first) this.#prefer(index);
            end(() => resolve(value));
          },
          (error: unknown) => {
            waiting--;
            if (over) return;
            const answer = this.#options.answerIn(error);
            if (answer !== undefined) return end(() => reject(answer));
            last = error;
            if (asked < clients.length) askNext();
            else if (waiting === 0) fail();
          },
        );
      };
      askNext();
    });
  }

  /**
   * Asks one member, once: a transaction whose answer is lost may have been done.
   * @throws {Fault} `registry-failed`, or what `answerIn` made.
   */
  async once<T>(call: (client: Client) => Promise<T>): Promise<T> {
    const index = this.#preferred;
    let timer: NodeJS.Timeout | undefined;
    const late = new Promise<never>((_, reject) => {
      timer = setTimeout(() => reject(new Error('no answer in time')), this.#options.deadlineMs);
    });
    try {
      return await Promise.race([call(this.#options.clients[index]!), late]);
    } catch (error) {
      const answer = this.#options.answerIn(error);
      if (answer !== undefined) throw answer;
      // Whoever tries again should not meet the same silence.
      if (this.#preferred === index) this.#prefer((index + 1) % this.#options.clients.length);
      throw failed(error);
    } finally {
      clearTimeout(timer);
    }
  }

  /** `leave` is called, once, when this member is not the preferred one any more: a watch there may be deaf. */
  onLeave(client: Client, leave: () => void): () => void {
    const leavers = this.#leavers.get(client) ?? new Set();
    this.#leavers.set(client, leavers);
    leavers.add(leave);
    return () => leavers.delete(leave);
  }

  #prefer(index: number): void {
    if (index === this.#preferred) return;
    const left = this.preferred;
    this.#preferred = index;
    const leavers = [...(this.#leavers.get(left) ?? [])];
    this.#leavers.delete(left);
    for (const leave of leavers) leave();
  }
}

function failed(cause: unknown): Fault {
  if (cause === undefined) return new Fault('registry-failed', 'etcd did not answer in time');
  return new Fault('registry-failed', `etcd: ${cause instanceof Error ? cause.message : String(cause)}`, {
    cause,
  });
}
