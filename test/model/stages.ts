/** Where plays are given: over a store in this process, or through a whole cluster. */
import { createHash } from 'node:crypto';
import { appendFile, rename, rm, writeFile } from 'node:fs/promises';
import type net from 'node:net';
import path from 'node:path';
import tls from 'node:tls';
import type { FolderFormat, Store } from '../../backend/store/store.ts';
import { Fault } from '../../base/fault.ts';
import { ImapClient } from '../backend/imap/imap-client.ts';
import { type Bench, makeBench, put, textOf } from '../backend/store/store-fixture.ts';
import type { Cluster } from '../support/cluster.ts';
import { SmtpConnection } from '../support/mail-sender.ts';
import type { Stage } from './play.ts';
import type { Wire } from './session.ts';

/** The real store and real sessions, without sockets. Losing the owner is losing its lease between any two steps. */
export async function storeStage(
  format: FolderFormat = 'maildir',
): Promise<Stage & { close(): Promise<void> }> {
  const bench = await makeBench(format);
  let held = await openHeld(bench);
  return {
    async connect() {
      return new SessionWire(held.store, { ended: held.ended.signal, limits: { errorsMax: 1e9 } });
    },
    async deliver(message, key) {
      try {
        const inbox = await held.store.folder('INBOX');
        return (await put(inbox, message, { key: createHash('md5').update(key).digest('hex') })).uid;
      } catch {
        return undefined;
      }
    },
    async foreign(message, id) {
      const { store } = held;
      const text = message.replaceAll('\r\n', '\n');
      if (format === 'mbox') await appendLocked(path.join(bench.directory, 'mbox/INBOX/mbox'), text);
      else {
        const name = `${Date.now()}.${id}.elsewhere`;
        const maildir = path.join(bench.directory, 'Maildir');
        await writeFile(path.join(maildir, 'tmp', name), text);
        await rename(path.join(maildir, 'tmp', name), path.join(maildir, 'new', name));
      }
      const inbox = await store.folder('INBOX');
      const deadline = Date.now() + 20_000;
      while (Date.now() < deadline) {
        await inbox.refresh();
        for (const uid of inbox.uids().toReversed().slice(0, 20)) {
          if ((await textOf(inbox, uid).catch(() => '')).includes(`X-Id: ${id}\r\n`)) return uid;
        }
        await new Promise((resolve) => setTimeout(resolve, 25));
      }
      throw new Error(`${id} was not picked up`);
    },
    async restart() {
      const old = held;
      old.lose();
      await old.store.close().catch(() => {});
      held = await openHeld(bench);
    },
    async close() {
      await held.store.close();
      await rm(bench.directory, { recursive: true, force: true, maxRetries: 5, retryDelay: 50 });
    },
  };
}

/** As a delivery agent does that knows dotlocks. */
async function appendLocked(mbox: string, text: string): Promise<void> {
  while (true) {
    try {
      await writeFile(`${mbox}.lock`, 'elsewhere', { flag: 'wx' });
      break;
    } catch {
      await new Promise((resolve) => setTimeout(resolve, 5));
    }
  }
  const quoted = text.replace(/^(>*From )/gm, '>$1');
  await appendFile(mbox, `From elsewhere Mon Jan  1 00:00:00 2024\n${quoted}\n`);
  await rm(`${mbox}.lock`);
}

interface Held {
  readonly store: Store;
  readonly ended: AbortController;
  lose(): void;
}

class SessionWire extends ImapClient {
  override destroy(): void {
    super.destroy();
    this.session.connectionLost();
  }
}

let epochs = 0;

async function openHeld(bench: Bench): Promise<Held> {
  const ended = new AbortController();
  let lost = false;
  const guard = {
    epoch: ++epochs,
    assert() {
      if (lost) throw new Fault('lease-lost', 'the lease is lost');
    },
  };
  const store = await bench.open({ guard });
  return {
    store,
    ended,
    lose() {
      lost = true;
      ended.abort(new Fault('lease-lost', 'the lease is lost'));
    },
  };
}

/** A cluster as it is installed; losing the owner is `kill -9` of the backend. */
export function clusterStage(cluster: Cluster, account: { address: string; password: string }): Stage {
  const connect = async (): Promise<Wire> => {
    for (let attempt = 0; ; attempt++) {
      const wire = new SocketWire(
        tls.connect({ host: cluster.host, port: cluster.ports.imaps, rejectUnauthorized: false }),
      );
      await wire.until((received) => received.indexOf('\r\n') + 2 || 0);
      wire.send(`l LOGIN ${account.address} "${account.password}"\r\n`);
      const answer = await wire.until((received) => {
        const at = received.search(/^l /m);
        return at < 0 ? 0 : received.indexOf('\r\n', at) + 2;
      });
      if (/^l OK/m.test(answer)) return wire;
      wire.destroy();
      if (attempt > 100) throw new Error(`no login: ${answer}`);
      await new Promise((resolve) => setTimeout(resolve, 100));
    }
  };
  return {
    connect,
    async deliver(message) {
      const connection = await SmtpConnection.open(cluster.host, cluster.ports.smtp);
      try {
        const answer = await connection.send('bob@example.org', [account.address], Buffer.from(message));
        return answer.code === 250 ? 0 : undefined;
      } catch {
        return undefined;
      } finally {
        await connection.quit();
      }
    },
    async restart() {
      await cluster.kill('backend-1');
      (await connect()).destroy();
    },
  };
}

class SocketWire implements Wire {
  readonly #socket: net.Socket;
  #received = '';
  #wake: (() => void) | undefined;
  ended = false;

  constructor(socket: net.Socket) {
    this.#socket = socket;
    socket.setNoDelay(true);
    socket.setEncoding('latin1');
    socket.on('data', (text: string) => {
      this.#received += text;
      this.#wake?.();
    });
    socket.on('error', () => {});
    socket.on('close', () => {
      this.ended = true;
      this.#wake?.();
    });
  }

  send(text: string): void {
    this.#socket.write(text, 'latin1');
  }

  async until(done: (received: string) => number): Promise<string> {
    const deadline = Date.now() + 30_000;
    for (;;) {
      let end = done(this.#received);
      if (end === 0 && this.ended) end = this.#received.length;
      if (end > 0 || this.ended) {
        const text = this.#received.slice(0, end);
        this.#received = this.#received.slice(end);
        return text;
      }
      const left = deadline - Date.now();
      if (left <= 0) throw new Error(`nothing more came after: ${this.#received.slice(-300)}`);
      await new Promise<void>((resolve) => {
        const timer = setTimeout(resolve, left);
        this.#wake = () => {
          clearTimeout(timer);
          resolve();
        };
      });
    }
  }

  destroy(): void {
    this.#socket.destroy();
  }
}
