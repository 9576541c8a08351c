/** The listening sockets of one member, kept while its processes come and go (`base/listening-sockets.ts`). */
import type { ChildProcess } from 'node:child_process';
import type { BareSocket } from '../base/listening-sockets.ts';
import type { SupervisorWord } from '../base/member.ts';

/** More listeners than any configuration has. */
const socketsMax = 256;

export class KeptSockets {
  readonly #sockets = new Map<string, BareSocket>();

  get count(): number {
    return this.#sockets.size;
  }

  sendTo(child: ChildProcess): void {
    for (const [name, socket] of this.#sockets)
      child.send({ word: 'listener', name } satisfies SupervisorWord, socket, () => {});
  }

  keep(name: string, socket: BareSocket | undefined): void {
    if (socket === undefined) return;
    this.#sockets.get(name)?.close();
    if (this.#sockets.size < socketsMax || this.#sockets.has(name)) this.#sockets.set(name, socket);
    else socket.close();
  }

  /** The member listens on these and no other any more. */
  retain(names: readonly string[]): void {
    for (const [name, socket] of this.#sockets) {
      if (names.includes(name)) continue;
      socket.close();
      this.#sockets.delete(name);
    }
  }

  close(): void {
    this.retain([]);
  }
}
