/**
 * Listening sockets that outlive the process that opened them: a member hands
 * each to its supervisor, and the next process of that member gets them back. The
 * kernel's queue of a socket belongs to nobody in particular, so a client that
 * connects while one process ends and the next begins waits, and is not refused.
 *
 * What travels is the bare handle (`server._handle`): a `net.Server` would begin
 * to accept in the supervisor too, which serves nobody.
 */
import type { SendHandle } from 'node:child_process';
import type { Server } from 'node:net';
import { Fault } from './fault.ts';
import type { MemberWord, SupervisorWord } from './member.ts';

/** A listening socket without anybody who accepts; `server.listen(handle)` takes it. */
export type BareSocket = SendHandle & { close(): void };

/** The supervisor sends them right after it has started the process. */
const receiveMs = 10_000;

export class ListeningSockets {
  readonly #inherited: Map<string, BareSocket>;
  readonly #names: string[] = [];

  private constructor(inherited: Map<string, BareSocket>) {
    this.#inherited = inherited;
  }

  /**
   * Call it in the first turn of the event loop: what comes earlier than its listener is lost.
   * @param count  How many the supervisor said there are.
   * @throws {Fault} `unavailable` when they do not come.
   */
  static receive(count: number): Promise<ListeningSockets> {
    const inherited = new Map<string, BareSocket>();
    if (count === 0) return Promise.resolve(new ListeningSockets(inherited));
    return new Promise((resolve, reject) => {
      const late = setTimeout(
        () => reject(new Fault('unavailable', 'the supervisor has not sent its sockets')),
        receiveMs,
      );
      const take = (word: SupervisorWord, handle: unknown): void => {
        if (word?.word !== 'listener') return;
        inherited.set(word.name, handle as BareSocket);
        if (inherited.size < count) return;
        clearTimeout(late);
        process.off('message', take);
        resolve(new ListeningSockets(inherited));
      };
      process.on('message', take);
    });
  }

  /** @returns The socket of this name that an earlier process left; whoever takes it listens on it. */
  take(name: string): BareSocket | undefined {
    const socket = this.#inherited.get(name);
    this.#inherited.delete(name);
    return socket;
  }

  /** `server` listens under this name now: the supervisor gets the socket, unless it has it. */
  keep(name: string, server: Server, isNew: boolean): void {
    this.#names.push(name);
    const { _handle: handle } = server as unknown as { _handle: SendHandle };
    if (isNew) process.send?.({ word: 'listening', name } satisfies MemberWord, handle);
  }

  /** Names of all that are listened on: the supervisor lets go of any other. Closes what nobody took. */
  settle(): readonly string[] {
    for (const socket of this.#inherited.values()) socket.close();
    this.#inherited.clear();
    return this.#names;
  }
}
