/**
 * The SMTP door: three roles, one session class, one Haraka. The listeners give
 * it accepted sockets; it never listens itself.
 */
import type { Socket } from 'node:net';
import path from 'node:path';
import type { DataLayout } from '../../base/layout.ts';
import type { Log } from '../../base/log.ts';
import { Deadlines } from '../net/deadline.ts';
import type { TlsContexts } from '../net/tls-contexts.ts';
import type { Chain } from '../plugin-host/chain.ts';
import type { Router } from '../routing/router.ts';
import { onlyPasswords, type SaslOffer } from '../session/sasl-exchange.ts';
import type { MutableSession } from '../session/session.ts';
import type { GatewaySettings } from '../settings.ts';
import type { DoorShared, SmtpRole } from './door-shared.ts';
import { harakaHomeOf, loadHaraka } from './haraka/haraka.ts';
import { SmtpSession } from './smtp-session.ts';
import { SpoolRoom } from './spool.ts';

export type { SmtpRole };

export interface SmtpDoorOptions {
  readonly settings: GatewaySettings;
  readonly layout: DataLayout;
  readonly chain: Chain;
  readonly router: Router;
  readonly log: Log;
  /** What the door greets with and writes in Received lines. */
  readonly hostname: string;
  readonly tls: Pick<TlsContexts, 'startTls'>;
  /** Mechanisms beside PLAIN and LOGIN; none unless told. */
  readonly sasl?: SaslOffer;
}

export interface SmtpDoor {
  /** Takes over an accepted socket, PROXY header and throttle done; bytes read beyond those are put back into it. */
  accept(socket: Socket, session: MutableSession, role: SmtpRole): void;
  /** Idle sessions end with 421, messages under way are finished, at most for `gateway.drain`. */
  close(): Promise<void>;
}

/**
 * Once per process: Haraka's state is global.
 * @throws {Fault} `cannot-write`, `bad-config`
 */
export async function openSmtpDoor(options: SmtpDoorOptions): Promise<SmtpDoor> {
  const { settings, layout, log, hostname } = options;
  const spools = await SpoolRoom.open(path.join(layout.data, 'spool'));
  const haraka = loadHaraka(
    harakaHomeOf(layout.data),
    {
      hostname,
      messageBytesMax: settings['smtp.message_size_max'],
      headerLinesMax: settings['smtp.header_lines_max'],
      receivedMax: settings['smtp.received_max'],
      lineBytesMax: settings['smtp.line_bytes_max'],
    },
    settings['smtp.haraka_plugins'],
    log,
  );
  const sessions = new Set<SmtpSession>();
  const deadlines = new Deadlines();
  let emptied: (() => void) | undefined;
  const shared: DoorShared = {
    ...options,
    sasl: options.sasl ?? onlyPasswords,
    haraka,
    spools,
    deadlines,
  };
  const ended = (session: SmtpSession) => {
    sessions.delete(session);
    if (sessions.size === 0) emptied?.();
  };
  let closing = false;
  return {
    accept(socket, facts, role) {
      const session = new SmtpSession(shared, socket, facts, role, ended);
      sessions.add(session);
      if (closing) session.stop();
      session.start().catch((error) => {
        log.error({ trace: facts.id, err: error }, 'smtp session failed');
        session.destroy();
      });
    },
    async close() {
      closing = true;
      const empty = new Promise<void>((done) => {
        emptied = done;
      });
      for (const session of [...sessions]) session.stop();
      if (sessions.size > 0) {
        const cut = setTimeout(() => {
          for (const session of [...sessions]) session.destroy();
        }, settings['gateway.drain']);
        await empty;
        clearTimeout(cut);
      }
      deadlines.close();
      haraka.close();
    },
  };
}
