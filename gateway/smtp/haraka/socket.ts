/**
 * What Haraka takes for its client's socket. The session stands between: it
 * hands in one complete, judged command at a time, gets each reply, and decides
 * what the real client sees. So Haraka never meets pipelining, TLS or PROXY.
 */
import { EventEmitter } from 'node:events';

/** What stands behind Haraka's socket and hooks. */
export interface HarakaPeer {
  readonly capabilities: readonly string[];
  /** A whole reply, CR LF included. */
  said(text: string): void;
  resumed(): void;
  ended(): void;
  deliver(): Promise<'accepted' | 'deferred' | 'refused'>;
}

export class HarakaSocket extends EventEmitter {
  readonly remoteAddress: string;
  readonly remotePort: number;
  readonly localAddress = '127.0.0.1';
  /** Haraka ties "authentication required" to 587 and 465; who has to log in is the session's decision. */
  readonly localPort = 25;
  readonly peer: HarakaPeer;
  paused = false;

  constructor(peer: HarakaPeer, address: string, port: number) {
    super();
    this.peer = peer;
    this.remoteAddress = address;
    this.remotePort = port;
  }

  write(text: string | Buffer): boolean {
    this.peer.said(text.toString());
    return true;
  }

  /** One command line, or a piece of a message. */
  feed(bytes: Buffer): void {
    this.emit('data', bytes);
  }

  pause(): void {
    this.paused = true;
  }

  resume(): void {
    this.paused = false;
    this.peer.resumed();
  }

  end(): void {
    this.peer.ended();
  }

  destroy(): void {
    this.peer.ended();
  }

  setTimeout(): this {
    return this;
  }

  setKeepAlive(): this {
    return this;
  }
}
