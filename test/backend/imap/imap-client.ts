/** A client on an IMAP session without any network: sends text, collects the answers up to the tagged one. */
import { ImapSession } from '../../../backend/serve/imap/imap-session.ts';
import type { Transport } from '../../../backend/serve/imap/reply-writer.ts';
import { SessionClock } from '../../../backend/serve/imap/session-clock.ts';
import { type ImapSessionLimits, imapSessionLimits } from '../../../backend/serve/imap/session-options.ts';
import type { Store } from '../../../backend/store/store.ts';
import { silentLog } from '../../../base/log.ts';

export class ImapClient implements Transport {
  readonly session: ImapSession;
  readonly clock = new SessionClock();
  closed = false;
  ended = false;
  released = 0;
  /** false: the client reads nothing; writes say "no more". */
  reads = true;
  writtenBytes = 0;
  paused = false;
  #received = '';
  #wake: (() => void)[] = [];
  #drained: (() => void)[] = [];

  constructor(store: Store, options: { limits?: Partial<ImapSessionLimits>; ended?: AbortSignal } = {}) {
    this.session = new ImapSession({
      account: {
        address: 'ann@example.org',
        store,
        release: () => {},
        ended: options.ended ?? new AbortController().signal,
      },
      transport: this,
      limits: { ...imapSessionLimits, ...options.limits },
      log: silentLog,
      facts: {},
      ended: () => {
        this.released++;
      },
      clock: this.clock,
    });
  }

  write(chunk: Buffer): boolean {
    this.writtenBytes += chunk.length;
    if (this.reads) this.#received += chunk.toString('latin1');
    this.#wakeAll();
    return this.reads;
  }
  drained(): Promise<void> {
    return new Promise((resolve) => this.#drained.push(resolve));
  }
  /** The client reads again. */
  readOn(): void {
    this.reads = true;
    for (const resolve of this.#drained.splice(0)) resolve();
  }
  pauseInput(): void {
    this.paused = true;
  }
  resumeInput(): void {
    this.paused = false;
  }
  end(): void {
    this.ended = true;
    this.#wakeAll();
  }
  destroy(): void {
    this.closed = true;
    this.ended = true;
    for (const resolve of this.#drained.splice(0)) resolve();
    this.#wakeAll();
  }

  /** Sends bytes as they are. */
  send(text: string | Buffer): void {
    this.session.receive(Buffer.from(text as string, 'latin1'));
  }

  /** Sends a command and returns all answer lines up to its tagged one; literals stand in the lines as they came. */
  async run(command: string | Buffer): Promise<string> {
    const text = Buffer.isBuffer(command) ? command.toString('latin1') : command;
    const tag = text.slice(0, text.indexOf(' '));
    this.send(Buffer.from(`${text}\r\n`, 'latin1'));
    return this.until((received) => tagged(received, tag));
  }

  /** What came until `done` says how many bytes of it are wanted, or the session ended. */
  async until(done: (received: string) => number): Promise<string> {
    const deadline = Date.now() + 40_000;
    for (;;) {
      const end = this.ended ? this.#received.length : done(this.#received);
      if (end > 0 || this.ended) {
        const out = this.#received.slice(0, end);
        this.#received = this.#received.slice(end);
        return out;
      }
      if (Date.now() > deadline) throw new Error(`nothing more came after: ${this.#received.slice(-500)}`);
      await new Promise<void>((resolve) => {
        const timer = setTimeout(resolve, 1000);
        this.#wake.push(() => {
          clearTimeout(timer);
          resolve();
        });
      });
    }
  }

  /** All that came within some turns of the event loop. */
  async settled(): Promise<string> {
    for (let turn = 0; turn < 20; turn++) await new Promise((resolve) => setImmediate(resolve));
    const out = this.#received;
    this.#received = '';
    return out;
  }

  #wakeAll(): void {
    for (const wake of this.#wake.splice(0)) wake();
  }
}

/** End of the line that begins with the tag, 0 when it has not come. */
export function tagged(received: string, tag: string): number {
  let at = received.startsWith(`${tag} `) ? 0 : received.indexOf(`\r\n${tag} `);
  if (at < 0) return 0;
  if (at > 0) at += 2;
  const end = received.indexOf('\r\n', at);
  return end < 0 ? 0 : end + 2;
}
